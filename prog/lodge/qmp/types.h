/* SPDX-License-Identifier: MIT */
/*
 * What values of QMP are made of: types, as a table of texts that are read as they stand here.
 *
 *	"name: str, *delay: int, keys: [KeyValue]"      members; those with '*' may be left out
 *	"left, middle, right"                           the words of an enumeration
 *
 * A type is str, int, number, bool, any, one of the table, or "[T]", an array of T. Ours are called as QEMU's are that mean the same, so
 * that who knows those knows these; what ours do not have, we do not have.
 *
 *	for (const char *at = text; qmp_next(&at, &m);)
 *		... m.name, m.type, m.optional
 */
#ifndef QMP_TYPES_H
#define QMP_TYPES_H

#include <stdbool.h>
#include <stddef.h>

#define QMP_WORD 48 /* of a name, with its zero byte */

enum qmp_kind {
	QMP_OBJECT, /* has members */
	QMP_ENUM,   /* is one of some words */
	QMP_UNION,  /* has members, and more that the last one of these decides */
};

struct qmp_type {
	const char *name;
	enum qmp_kind kind;
	const char *text;  /* members, or words */
	const char *cases; /* of a union, by the word that decides: "key: KeyCase, ..." */
	const char *(*word)(unsigned i); /* of an enumeration whose words are elsewhere; NULL behind the last one */
};

extern const struct qmp_type qmp_types[]; /* ends with a NULL name */

/* JSON's own, and what query-qmp-schema calls them. */
struct qmp_builtin {
	const char *name, *json;
};

extern const struct qmp_builtin qmp_builtins[]; /* the same */

const struct qmp_type *qmp_type_find(const char *name);

struct qmp_member {
	char name[QMP_WORD], type[QMP_WORD];
	bool optional;
};

/* The next member or word of a text; false at its end. */
bool qmp_next(const char **at, struct qmp_member *m);

/* Word i of an enumeration, in a buffer of QMP_WORD bytes if it has none of its own; NULL: it has less. */
const char *qmp_word(const struct qmp_type *type, unsigned i, char word[QMP_WORD]);

/* The member of a union that decides, which is its text's last. */
void qmp_tag(const struct qmp_type *type, struct qmp_member *tag);

/* What a case of it adds: the name of a type. False: there is no such case. */
bool qmp_case(const struct qmp_type *type, const char *word, struct qmp_member *m);

#endif
