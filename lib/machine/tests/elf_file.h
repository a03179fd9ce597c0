/* SPDX-License-Identifier: MIT */
/*
 * Makes an ELF file with a PVH entry out of a piece of code: header, one PT_LOAD, one PT_NOTE.
 * A test bends the fields before elf_file_bytes() lays them out.
 */
#ifndef MACHINE_TESTS_ELF_FILE_H
#define MACHINE_TESTS_ELF_FILE_H

#include <elf.h>
#include <stdint.h>
#include <string.h>

#define ELF_NOTE_AT 0x200
#define ELF_CODE_AT 0x1000
#define ELF_FILE_MAX 0x4000
#define ELF_BASE 0x100000

struct elf_file {
	Elf64_Ehdr head;
	Elf64_Phdr load, note;
	uint32_t note_words[5]; /* namesz, descsz, type, "Xen", entry */
};

static inline struct elf_file elf_file_good(size_t code_len)
{
	return (struct elf_file){
		.head = {
			.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
			.e_type = ET_EXEC,
			.e_machine = EM_X86_64,
			.e_version = EV_CURRENT,
			.e_phoff = sizeof(Elf64_Ehdr),
			.e_ehsize = sizeof(Elf64_Ehdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 2,
		},
		.load = {
			.p_type = PT_LOAD,
			.p_offset = ELF_CODE_AT,
			.p_paddr = ELF_BASE,
			.p_filesz = code_len,
			.p_memsz = code_len + 0x10000,
		},
		.note = {
			.p_type = PT_NOTE,
			.p_offset = ELF_NOTE_AT,
			.p_filesz = 20,
			.p_memsz = 20,
		},
		.note_words = {4, 4, 18, 0x006e6558, ELF_BASE},
	};
}

/* Fills bytes (of ELF_FILE_MAX, zeroed) and returns the file's length. */
static inline size_t elf_file_bytes(const struct elf_file *f, const uint8_t *code,
				    size_t code_len, uint8_t *bytes)
{
	memcpy(bytes, &f->head, sizeof(f->head));
	memcpy(bytes + sizeof(f->head), &f->load, sizeof(f->load));
	memcpy(bytes + sizeof(f->head) + sizeof(f->load), &f->note, sizeof(f->note));
	memcpy(bytes + ELF_NOTE_AT, f->note_words, sizeof(f->note_words));
	memcpy(bytes + ELF_CODE_AT, code, code_len);
	return ELF_CODE_AT + code_len;
}

#endif
