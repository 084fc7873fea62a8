/*
 * The meaning of KDA, in double. Two forms of the same thing, for one (sequence, value head):
 *
 *   fkdai_ref_tokens   the recurrence, token by token: the specification
 *   fkdai_ref_chunks   the chunk form of docs/algorithm.md, written with its symbols; agrees to 1e-12
 *
 * Everything else in flashkda is tested against the first.
 */
#ifndef FKDAI_REF_H
#define FKDAI_REF_H

#include "flashkda.h"
#include "sequences.h"

#define FKDAI_REF_MAX_WIDTH 256    /* K and V are at most this */
#define FKDAI_REF_CHUNK 16         /* C, tokens per chunk of the chunk form */

/* One token of one value head, as the recurrence wants it. */
typedef struct fkdai_ref_token {
    double q[FKDAI_REF_MAX_WIDTH];            /* q^ [K], normalised, without scale */
    double k[FKDAI_REF_MAX_WIDTH];            /* k^ [K] */
    double v[FKDAI_REF_MAX_WIDTH];            /* [V] */
    double log_decay[FKDAI_REF_MAX_WIDTH];    /* log a [K], natural, in [-750, 0] */
    double beta;                              /* b */
} fkdai_ref_token;

/* One (sequence, value head) of a checked call. */
typedef struct fkdai_ref_item {
    const fkda_fwd_desc *desc;    /* resolved */
    const fkda_fwd_args *args;
    fkdai_sequence seq;
    int64_t hv;
} fkdai_ref_item;

/* Reads token t as the caller stored it: log_decay holds g, and beta the caller's. Then: activates beta and the gate, normalises q and k. */
void fkdai_ref_read_rows(const fkdai_ref_item *item, int64_t t, fkdai_ref_token *token);
void fkdai_ref_activate(const fkdai_ref_item *item, fkdai_ref_token *token);

/* Both. */
void fkdai_ref_read_token(const fkdai_ref_item *item, int64_t t, fkdai_ref_token *token);

/* Rounds out [V] of token t once, to the caller's dtype; where there is no out, nothing. */
void fkdai_ref_write_out(const fkdai_ref_item *item, int64_t t, const double *out);

double fkdai_ref_sigmoid(double x);

/* One token: state [K,V], read and updated; o [V]. */
void fkdai_ref_step(const fkdai_ref_token *token, double scale, int64_t K, int64_t V, double *state, double *o);

/* state [K,V], read and updated; out is written for every token of the sequence. */
void fkdai_ref_tokens(const fkdai_ref_item *item, double *state);
void fkdai_ref_chunks(const fkdai_ref_item *item, double *state);

/* One (sequence, head) of a checked call of fkda_decode_fused: what the item does not say. */
typedef struct fkdai_ref_fused {
    const fkda_decode_fused_desc *desc;    /* resolved */
    const fkda_decode_fused_args *args;
    int64_t row;                           /* of states and taps; -1: a null slot */
    int starts_from_0;
} fkdai_ref_fused;

/* The token of item, with what stands around it; out and the taps are written. */
void fkdai_ref_fused_token(const fkdai_ref_fused *fused, const fkdai_ref_item *item, double *state);

#endif
