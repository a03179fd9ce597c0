/* SPDX-License-Identifier: MIT */
/*
 * The lodge program: verbs, options, exit codes.
 */
#ifndef LODGE_LODGE_H
#define LODGE_LODGE_H

#include <stddef.h>

struct err;

/* What the program says to scripts. */
enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_FOUND = 3, /* a file, a guest */
	EXIT_CONFLICT = 4,  /* somebody else has it, or its state does not allow it */
	EXIT_ENGINE = 5,    /* no engine can be used */
	EXIT_TIMEOUT = 124, /* what was waited for has not come */
	EXIT_SIGNAL = 128,  /* and the signal's number */
};

/* What an option's value is, and of which type the member that it goes into. */
enum option_kind {
	OPTION_FLAG,   /* bool: it takes none */
	OPTION_TEXT,   /* const char *: anything */
	OPTION_WORD,   /* const char *: one of those of `arg`, "on|off" */
	OPTION_NUMBER, /* unsigned, from `least` to `most` */
	OPTION_SIZE,   /* uint64_t, with a unit (base/size.h) */
	OPTION_OTHER,  /* set() knows */
};

/* An option of a verb: a row of its table, which ends with a NULL name. */
struct option {
	const char *name; /* "--kernel" */
	const char *arg;  /* what its value is called in help; NULL: takes none */
	const char *help;
	enum option_kind kind;
	size_t at; /* of the member in the verb's struct */
	unsigned least, most;
	/* Puts the value (argv's own) into the member; 0 or -EINVAL with err. */
	int (*set)(void *into, char *value, struct err *err);
};

/* The row that ends each table of options that has it: for programs. */
#define OPTION_JSON(member)                                                                \
	{"-o", "table|json", "for people, or for programs (default: table)", OPTION_WORD,  \
	 member, 0, 0, NULL}

/* Of each verb that is for a running guest. */
#define VM_TEXT                                                                            \
	"VM is the guest's name (lodge run --name), or the number of its lodge's process; it may be\n" \
	"left out if there is only one.\n"

struct verb {
	const char *name, *alias;
	const char *summary; /* one line */
	const char *text;    /* more, for `lodge help VERB`; NULL: nothing */
	const char *operand; /* "[VERB]": what it takes that is no option; NULL: nothing */
	unsigned n_operands; /* as many words at most */
	size_t rest; /* where in the struct the char ** is for all words behind "--"; 0: it takes none */
	const struct option *options;
	size_t size; /* of the struct that options fill; it begins with a const char * for each operand */
	const void *defaults; /* what it is before; NULL: zeros */
	int (*main)(void *parsed);
	/* Hears of each option before it is set, and of operands (NULL); or NULL. 0 or -errno. */
	int (*note)(void *parsed, const struct option *o, const char *value, struct err *err);
};

extern const struct verb *const verbs[]; /* ends with NULL */
extern const struct verb verb_run, verb_restore, verb_image, verb_ssh, verb_ps, verb_info, verb_stats, verb_pause,
	verb_resume, verb_reset, verb_balloon, verb_link, verb_media, verb_eject, verb_attach, verb_detach, verb_console, verb_fork, verb_migrate, verb_save, verb_screenshot,
	verb_send_key, verb_snapshot, verb_stop, verb_nbd, verb_kvm,
	verb_doctor,
	verb_help, verb_version;

/* "lodge", or which program it is that has these verbs. */
extern const char program_name[];

/* What `lodge help VERB` says: from its table. */
void verb_show(const struct verb *v);

/* NULL if there is no such verb. */
const struct verb *verb_find(const char *name);

/* What a command line with one word at least asks for, and the words for it in argc and argv; --help and --version among them.
 * NULL: there is no verb as argv[1] names it. */
const struct verb *verb_asked(int *argc, char ***argv);

/* The sentence about a verb that is none, on stderr. EXIT_USAGE. */
int verb_unknown(const char *name);

/* Fills `into`. 0, or -EINVAL with a sentence. argv is without program and verb. */
int options_parse(const struct verb *verb, void *into, int argc, char **argv,
		  struct err *err);

/* Sets one of them; `value` stays where it is. 0 or -EINVAL with a sentence. */
int option_set(const struct option *o, void *into, char *value, struct err *err);

/* Whether the value of OPTION_JSON asks for it. */
int wants_json(const char *format);

#endif
