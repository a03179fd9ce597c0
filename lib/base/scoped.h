/* SPDX-License-Identifier: MIT */
/*
 * Locals that undo themselves, so that every early return is right.
 *
 *	scoped_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
 *	scoped_mem char *buf = malloc(n);
 *
 *	if (fd < 0 || !buf || read_header(fd, buf) < 0)
 *		return -EIO;
 *	disk->fd = keep_fd(&fd);                // from here on disk owns it
 *
 * A scoped variable is initialised where it is declared: fds with -1 or an open(), memory
 * with NULL or an allocation.
 */
#ifndef BASE_SCOPED_H
#define BASE_SCOPED_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define scoped_fd   __attribute__((cleanup(scoped_close)))
#define scoped_mem  __attribute__((cleanup(scoped_free)))

/* Holds a pthread mutex to the end of the scope: `scoped_lock(&q->lock);` */
#define scoped_lock(mutex)                                                                 \
	__attribute__((cleanup(scoped_unlock), unused)) pthread_mutex_t *scoped_held =     \
		scoped_take(mutex)

static inline void scoped_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void scoped_free(void *p)
{
	free(*(void **)p);
}

static inline pthread_mutex_t *scoped_take(pthread_mutex_t *mutex)
{
	pthread_mutex_lock(mutex);
	return mutex;
}

static inline void scoped_unlock(pthread_mutex_t **mutex)
{
	pthread_mutex_unlock(*mutex);
}

/* The descriptor, which the scope no longer closes. */
static inline int keep_fd(int *fd)
{
	int kept = *fd;

	*fd = -1;
	return kept;
}

/* The pointer, which the scope no longer frees. */
#define keep_mem(p)                                                                        \
	__extension__({                                                                    \
		__typeof__(*(p)) kept_ = *(p);                                             \
		*(p) = NULL;                                                               \
		kept_;                                                                     \
	})

#endif
