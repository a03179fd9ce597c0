/* SPDX-License-Identifier: MIT */
/*
 * The facts that decide whether and how fast Lodge runs on this computer.
 *
 *	struct fact facts[FACTS_MAX];
 *	unsigned n = facts_judge(&answers, facts);      // engine/ask.h fills the answers
 *
 *	for (unsigned i = 0; i < n; i++)
 *		printf("%s %s %s\n", facts[i].name, verdict_name(facts[i].verdict), facts[i].text);
 *
 * Judging looks at the answers only, so that every verdict has a test on any computer.
 */
#ifndef ENGINE_FACTS_H
#define ENGINE_FACTS_H

struct answers;

enum verdict {
	FACT_OK,      /* as Lodge wants it, or of no account */
	FACT_SLOWER,  /* it works, slower than it could */
	FACT_LESS,    /* it works, and a guest has less than it could */
	FACT_MISSING, /* the engine cannot be used for want of it */
	VERDICTS
};

struct fact {
	const char *name;   /* for scripts: it stays */
	const char *engine; /* "kvm" or "soft", which it concerns; NULL: both */
	enum verdict verdict;
	char value[66];     /* for scripts, where there are few: "v3", "kept"; "" if none */
	char text[200];     /* for people */
	const char *remedy; /* what to do about it; NULL: nothing can be done, or need be */
};

#define FACTS_MAX 32

/* Fills facts[FACTS_MAX], sorted by engine, both first; returns how many there are, always the
 * same ones. */
unsigned facts_judge(const struct answers *a, struct fact *facts);

/* "ok", "slower", "less", "missing". */
const char *verdict_name(enum verdict verdict);

#endif
