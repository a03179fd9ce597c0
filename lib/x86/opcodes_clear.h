/* SPDX-License-Identifier: MIT */
/* Forgets the row macros, so that optable.c can give them another meaning. No guard. */
#undef OP
#undef OPS
#undef VX
#undef EV
#undef GR
#undef GM
#undef GU
#undef RR
#undef MD
