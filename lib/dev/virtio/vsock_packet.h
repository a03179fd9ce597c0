/* SPDX-License-Identifier: MIT */
/*
 * A packet of virtio sockets (section 5.10.6 of virtio 1.2), as the driver, the device and prog/lodge/vsock pass it on: a header, all of
 * it little-endian, and bytes.
 *
 *	 0 src_cid   8 dst_cid   16 src_port   20 dst_port   24 len   28 type   30 op   32 flags   36 buf_alloc   40 fwd_cnt
 *
 * `buf_alloc` and `fwd_cnt` are credit: who sends has never more than buf_alloc bytes under way that the other end has not counted
 * in fwd_cnt. Ours has VSOCK_ROOM, so no packet of a driver that keeps to it is longer.
 */
#ifndef DEV_VIRTIO_VSOCK_PACKET_H
#define DEV_VIRTIO_VSOCK_PACKET_H

#define VSOCK_HEADER 44u
#define VSOCK_ROOM   61440u

/* Fields. */
#define VSOCK_SRC_CID   0
#define VSOCK_DST_CID   8
#define VSOCK_SRC_PORT  16
#define VSOCK_DST_PORT  20
#define VSOCK_LEN       24
#define VSOCK_TYPE      28
#define VSOCK_OP        30
#define VSOCK_FLAGS     32
#define VSOCK_BUF_ALLOC 36
#define VSOCK_FWD_CNT   40

#define VSOCK_HOST   2u /* our CID */
#define VSOCK_STREAM 1u /* the type */

/* None, from the device itself: its driver begins anew, and has no connections. */
enum vsock_op {
	VSOCK_NONE, VSOCK_REQUEST, VSOCK_RESPONSE, VSOCK_RST, VSOCK_SHUTDOWN, VSOCK_RW, VSOCK_CREDIT_UPDATE, VSOCK_CREDIT_REQUEST,
};

/* Flags of VSOCK_SHUTDOWN: what the sender does no more. */
#define VSOCK_RECEIVES 1u
#define VSOCK_SENDS    2u

#endif
