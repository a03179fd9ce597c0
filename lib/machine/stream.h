/* SPDX-License-Identifier: MIT */
/*
 * What goes from one lodge to the other when a machine migrates; all numbers little-endian.
 *
 *	frame:   type (4)   count (4)   value (8)   and what belongs to it
 *
 *	BEGIN    version         size of memory           the first frame
 *	PAGES    n               where in RAM, in bytes   n pages; the last of a page counts
 *	ZEROS    n               where                    n pages that are zeros now
 *	STATE    0               length                   a saved machine up to its memory (saved.h)
 *	END      1: it is paused, 0                       all was sent, and the machine stands still
 *
 * One byte is answered: STREAM_RUNS, just before it runs there; or STREAM_REFUSED, and a sentence that ends with the
 * stream. Nothing is answered before END but a refusal.
 */
#ifndef MACHINE_STREAM_H
#define MACHINE_STREAM_H

enum stream_frame {
	STREAM_BEGIN = 0x4d474c01, /* "\1LGM" */
	STREAM_PAGES = 2,
	STREAM_ZEROS,
	STREAM_STATE,
	STREAM_END,
};

#define STREAM_VERSION 1u
#define STREAM_HEAD    16u
#define STREAM_PAGE    4096u
#define STREAM_RUN     512u /* pages in a frame at most */

#define STREAM_RUNS    'R'
#define STREAM_REFUSED 'E'
#define STREAM_TEXT    256 /* of a refusal, with its zero byte */

#endif
