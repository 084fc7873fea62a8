/*
 * Micro-kernels: what the CPU backend asks of an instruction set. Names decode as ukr_<op>_<rows>x<cols>__<isa>, rows and columns being the
 * register tile. Each op is written once, in ukr_<op>.h, over the vector words of vec__<isa>.h; ukr_<op>_<rows>x<cols>__<isa>.c compiles it.
 *
 * Symbols: C tokens of a chunk, split into groups of GROUP; a = 2^(log2 a) the decay of one token and channel, in (0,1]; P_i the product of a
 * over the rows of a chunk (or group) up to and including i. Only products of a occur, never quotients or exponentials of differences:
 * every factor is <= 1, so no gate can overflow, and underflow is what the exact result does too.
 */
#ifndef FKDAI_UKR_H
#define FKDAI_UKR_H

#include "flashkda.h"

enum {
    FKDAI_CPU_CHUNK = 16,        /* C */
    FKDAI_CPU_GROUP = 4,         /* tokens whose pairs are decayed directly, in registers */
    FKDAI_CPU_PANEL = 32,        /* columns of V in one panel of S */
    FKDAI_CPU_STEP_ROWS = 16,    /* value channels that several tokens of decode take at once, of [V,K] */
    FKDAI_CPU_STEP_COLUMNS = 64, /* of [K,V]; one token takes all of them */
    FKDAI_CPU_MAX_WIDTH = 128    /* K and V are 64 or 128 */
};

#define FKDAI_CPU_LOG2_DECAY_MIN (-14426.950408889634f)    /* log a >= -1e4, in base 2 */

/* The gate of one value head. */
typedef struct fkdai_cpu_gate {
    fkda_gate kind;
    float rate_log2;                                 /* exp(A_log) log2(e), positive and finite */
    float lower_bound_log2;                          /* lower_bound log2(e) */
    _Alignas(64) float bias[FKDAI_CPU_MAX_WIDTH];    /* dt_bias [K], or 0 */
} fkdai_cpu_gate;

/* GROUP tokens of one value head, as read. */
typedef struct fkdai_cpu_group {
    _Alignas(64) float alpha[FKDAI_CPU_GROUP][FKDAI_CPU_MAX_WIDTH];    /* a [GROUP,K] */
    float k[FKDAI_CPU_GROUP][FKDAI_CPU_MAX_WIDTH];                     /* k^ [GROUP,K] */
    float q[FKDAI_CPU_GROUP][FKDAI_CPU_MAX_WIDTH];                     /* scale q^ [GROUP,K] */
} fkdai_cpu_group;

/* One chunk, ready to meet the state. */
typedef struct fkdai_cpu_chunk {
    _Alignas(64) float k_decayed[FKDAI_CPU_CHUNK][FKDAI_CPU_MAX_WIDTH];    /* K+_i = k^_i P_i [C,K] */
    float q_decayed[FKDAI_CPU_CHUNK][FKDAI_CPU_MAX_WIDTH];                 /* Q+_i = scale q^_i P_i [C,K] */
    float k_restored[FKDAI_CPU_CHUNK][FKDAI_CPU_MAX_WIDTH];                /* Kr_j = k^_j P_last / P_j [C,K], by products of a */
    float akk[FKDAI_CPU_CHUNK][FKDAI_CPU_CHUNK];                           /* A_ij, j < i; b_i folded in */
    float mqk[FKDAI_CPU_CHUNK][FKDAI_CPU_CHUNK];                           /* M_ij, j <= i */
    float beta[FKDAI_CPU_CHUNK];                                           /* b_i */
    float gate_cum[FKDAI_CPU_MAX_WIDTH];       /* running sum of log2 a [K] */
    float decay_cum[FKDAI_CPU_MAX_WIDTH];      /* running P [K] */
    float gate_last[FKDAI_CPU_MAX_WIDTH];      /* decay of the whole chunk [K]: S becomes gate_last S + (gate_keep & S), where */
    float gate_keep[FKDAI_CPU_MAX_WIDTH];      /* near 1 gate_last is 2^gate_cum - 1 and the mask keeps S; else 2^gate_cum, mask 0 */
} fkdai_cpu_chunk;

/* One token of decode. */
typedef struct fkdai_cpu_token {
    _Alignas(64) float k[FKDAI_CPU_MAX_WIDTH];    /* k^ [K] */
    float q[FKDAI_CPU_MAX_WIDTH];                 /* scale q^ [K] */
    float gate_last[FKDAI_CPU_MAX_WIDTH];         /* its decay, as that of a chunk */
    float gate_keep[FKDAI_CPU_MAX_WIDTH];
    float beta;                                   /* b */
} fkdai_cpu_token;

/* Starts at gate_cum = 0. alpha = a [K] from what lies in g [K]; gate_cum += log2 a. */
typedef void fkdai_ukr_gate(const fkdai_cpu_gate *gate, const void *g, fkda_dtype dtype, int64_t K, float *alpha, float *gate_cum);

/* gate_last, gate_keep from gate_cum [K]. */
typedef void fkdai_ukr_close(int64_t K, fkdai_cpu_chunk *chunk);

/* beta [C] = multiplier sigmoid(beta). */
typedef void fkdai_ukr_sigmoid(float multiplier, float *beta);

/* row [width] = x [width] factor; with is_normalised, x factor / sqrt(|x|^2 + 1e-6). */
typedef void fkdai_ukr_load_row(const void *x, fkda_dtype dtype, int64_t width, int is_normalised, float factor, float *row);

/* Rounds row [width] once, to nearest even, into dtype. */
typedef void fkdai_ukr_store_row(const float *row, int64_t width, fkda_dtype dtype, void *out);

/* Adds group b, rows i in [GROUP b, GROUP (b+1)), to the chunk: rows i of K+, Q+, A and M; Kr of all rows so far, and decay_cum. */
typedef void fkdai_ukr_relate(const fkdai_cpu_group *group, int b, int64_t K, fkdai_cpu_chunk *chunk);

/* One panel: v, out [C,PANEL] of rows MAX_WIDTH apart, update [C,PANEL], state [K,PANEL]. Writes rows < len of U, then of O; and rows that share a
 * register tile with them, which nobody may use. */
typedef void fkdai_ukr_solve(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *v, const float *state, float *update);
typedef void fkdai_ukr_out(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *state, const float *update, float *out);

/* state = S', from rows < len. */
typedef void fkdai_ukr_advance(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *update, float *state);

/* Decode, one token on a part of S where it lies. Columns: state [K,width], rows `stride` apart, width a multiple of STEP_COLUMNS; v, out [width]. Rows: state
 * [rows,K], rows a multiple of STEP_ROWS; v, out [rows]. No bit depends on what the other parts hold, nor on how many columns or rows are taken at once. */
typedef void fkdai_ukr_step_columns(const fkdai_cpu_token *token, int64_t K, int64_t stride, int64_t width, const float *v, float *state, float *out);
typedef void fkdai_ukr_step_rows(const fkdai_cpu_token *token, int64_t K, int64_t rows, const float *v, float *state, float *out);

typedef struct fkdai_cpu_ukr {
    const char *name;    /* "avx512" */
    fkdai_ukr_gate *gate;
    fkdai_ukr_close *close;
    fkdai_ukr_sigmoid *sigmoid;
    fkdai_ukr_load_row *load_row;
    fkdai_ukr_store_row *store_row;
    fkdai_ukr_relate *relate;
    fkdai_ukr_solve *solve;
    fkdai_ukr_out *out;
    fkdai_ukr_advance *advance;
    fkdai_ukr_step_columns *step_columns;
    fkdai_ukr_step_rows *step_rows;
} fkdai_cpu_ukr;

/* The micro-kernels of one instruction set, "scalar", "avx2", "avx512" or "neon", in any case; NULL if this build or this machine has none of that name. */
const fkdai_cpu_ukr *fkdai_cpu_ukr_named(const char *name);

/* The best ones of this machine, or those that the environment variable FKDA_CPU_ISA names; decided once. NULL: it names none that exist
 * here; *reason becomes a sentence. */
const fkdai_cpu_ukr *fkdai_cpu_ukr_chosen(const char **reason);

#endif
