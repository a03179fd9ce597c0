/* SPDX-License-Identifier: MIT */
/*
 * In a guest: loads the kernel that starts when this one panics.
 *
 *	kexec KERNEL INITRD CMDLINE
 *
 * Debian's kexec-tools do the same, with libraries that an initramfs would have to have.
 */
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int kernel, initrd;

	if (argc != 4)
		return 2;
	kernel = open(argv[1], O_RDONLY);
	initrd = open(argv[2], O_RDONLY);
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[3]) + 1, argv[3],
		    (unsigned long)KEXEC_FILE_ON_CRASH) < 0) {
		perror("kexec_file_load");
		return 1;
	}
	return 0;
}
