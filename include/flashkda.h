/*
 * flashkda.h -- Kimi Delta Attention (KDA), forward pass (prefill) and decode, behind a C ABI. The whole interface is this one file,
 * so that a program copies or installs one.
 *
 * For one sequence and one value head, token by token, with a state S [K,V]:
 *
 *     q^ = q / sqrt(|q|^2 + 1e-6)          k^ = k / sqrt(|k|^2 + 1e-6)
 *     log a = lower_bound * sigmoid(exp(A_log) * (g + dt_bias))        bounded gate,  a in (0,1]^K
 *     log a = -exp(A_log) * softplus(g + dt_bias)                      softplus gate
 *     b = sigmoid(beta)
 *     S <- Diag(a) S;     u = b (v - S^T k^);     S <- S + k^ u^T;     o = scale * S^T q^
 *
 * Source: "Kimi Linear: An Expressive, Efficient Attention Architecture", arXiv:2510.26692; docs/algorithm.md derives the
 * chunk form that the backends compute.
 *
 * Shapes: B batch, T tokens, N sequences, H query/key heads, HV value heads (a multiple of H), K key width, V value width.
 *     q, k [B,T,H,K]   v, out [B,T,HV,V]   g [B,T,HV,K]   beta [B,T,HV]   A_log [HV]   dt_bias [HV,K]
 *     states [N,HV,V,K] or [N,HV,K,V], or slots of a pool   cu_seqlens [N+1]
 *     checkpoints: states inside sequences, one row each
 *
 * How to use it, from simple to planned:
 *     fkda_fwd                         one call: check, plan, run
 *     fkda_fwd_plan, fkda_fwd_run      plan once, run often: no allocation, no synchronisation
 *     fkda_fwd_query, fkda_fwd_advise, fkda_fwd_workspace_size, fkda_plan_describe, fkda_backend_status    questions; nothing runs
 *     fkda_decode and the same around it: a few new tokens for each of many sequences, states updated in place
 *     fkda_decode_fused and the same around it: one new token for each, with the convolution before and the gated norm behind
 *
 * Everywhere: a desc holds what a plan may depend on and no pointer, the args hold pointers and no shape. Zero-initialise both
 * and set struct_size; a zero field means its default. Only `scale` and `lower_bound` have none: they are taken literally.
 * Descs and args grow by fields at their end. struct_size may be the size of any version from 0.1.0 on: fields that the caller's version
 * lacks are 0. A larger one, up to 4096, is taken where all that this library does not know is 0, and is FKDA_ERR_STRUCT_SIZE otherwise.
 * The structs inside them never change.
 * Every function may be called from any thread. Nothing here prints, exits or throws. A function that fails returns a status,
 * leaves a sentence in fkda_last_error(), and has written to no output. The caller owns all memory.
 *
 * On host memory: the library's threads sleep between calls, follow the caller's affinity, survive fork (a child starts its own) and end
 * at dlclose; where none can be made, the caller's thread does the work. Results do not depend on the caller's floating-point
 * environment (rounding, FTZ, DAZ, unmasked exceptions), which is afterwards what it was.
 */
#ifndef FLASHKDA_H
#define FLASHKDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FKDA_VERSION_MAJOR 0
#define FKDA_VERSION_MINOR 1
#define FKDA_VERSION_PATCH 0

#if defined(_WIN32)
#define FKDA_API
#else
#define FKDA_API __attribute__((visibility("default")))
#endif

/* ---------------------------------------------------------------- status */

/* The one list of errors: X(enumerator, number, text). Numbers are never reused. What a desc breaks, every function says that takes one alone:
 * plan, query, workspace_size. What args, workspace or stream break, run says, and so does the call that does all of it (fkda_fwd). */
#define FKDA_STATUS_MAP(X)                                                                  \
    X(FKDA_OK,                    0, "success")                                             \
    X(FKDA_ERR_NULL_POINTER,      1, "a required pointer is NULL")                          \
    X(FKDA_ERR_STRUCT_SIZE,       2, "struct_size is not one this library knows")           \
    X(FKDA_ERR_BAD_VALUE,         3, "a value is outside its range")                        \
    X(FKDA_ERR_SHAPE,             4, "a dimension is out of range or inconsistent")         \
    X(FKDA_ERR_DTYPE,             5, "a dtype is not allowed for this tensor")              \
    X(FKDA_ERR_STRIDE,            6, "a stride is negative or makes a tensor overlap")      \
    X(FKDA_ERR_MISALIGNED,        7, "a pointer is not aligned to its element")             \
    X(FKDA_ERR_ALIAS,             8, "two arguments overlap that may not")                  \
    X(FKDA_ERR_OVERFLOW,          9, "a size does not fit 64 bits")                         \
    X(FKDA_ERR_WORKSPACE,        10, "the workspace is missing, short or misaligned")       \
    X(FKDA_ERR_UNSUPPORTED,      11, "no backend on this machine takes the problem")        \
    X(FKDA_ERR_NO_MEMORY,        12, "out of host memory")                                  \
    X(FKDA_ERR_NO_DEVICE,        13, "no GPU or no driver")                                 \
    X(FKDA_ERR_ARCH,             14, "no kernel for this GPU")                              \
    X(FKDA_ERR_DRIVER,           15, "the GPU driver is too old")                           \
    X(FKDA_ERR_CUDA,             16, "the CUDA runtime reported an error")                  \
    X(FKDA_ERR_CUDA_PRIOR,       17, "the CUDA runtime held an error from before the call") \
    X(FKDA_ERR_CAPTURE,          18, "not possible while the stream is being captured")     \
    X(FKDA_ERR_DEVICE_MISMATCH,  19, "memory, stream and device do not belong together")    \
    X(FKDA_ERR_CU_SEQLENS,       20, "cu_seqlens is not 0 = c[0] <= c[1] <= ... <= c[N] <= T") \
    X(FKDA_ERR_VERSION,          21, "a version does not match")                            \
    X(FKDA_ERR_IO,               22, "a file could not be read or written")                 \
    X(FKDA_ERR_FORMAT,           23, "a file's content is malformed")                       \
    X(FKDA_ERR_LIMIT,            24, "a documented limit is exceeded")                      \
    X(FKDA_ERR_INTERNAL,         25, "a defect of flashkda itself")

typedef enum fkda_status {
#define FKDA_STATUS_ENUM(name, number, text) name = number,
    FKDA_STATUS_MAP(FKDA_STATUS_ENUM)
#undef FKDA_STATUS_ENUM
    FKDA_STATUS_MAX = 0x7fffffff    /* not a status: ends the list, so that C++98 reads it too */
} fkda_status;

FKDA_API const char *fkda_status_name(fkda_status status);   /* "FKDA_ERR_SHAPE"; "FKDA_ERR_?" for a stranger. Never NULL. */
FKDA_API const char *fkda_status_text(fkda_status status);   /* the text of the list above. Never NULL. */

/* The sentence of this thread's last failure: argument, value and rule. "" if none failed. Valid until this thread's next call. */
FKDA_API const char *fkda_last_error(void);

/* ---------------------------------------------------------------- words */

typedef enum fkda_dtype {
    FKDA_NONE = 0,   /* q,k,v,g,beta,out: bf16.  Optional tensors: absent. */
    FKDA_BF16 = 1, FKDA_F32 = 2, FKDA_F16 = 3 /* not offered yet */, FKDA_I32 = 4, FKDA_I64 = 5
} fkda_dtype;

typedef enum fkda_backend { FKDA_BACKEND_AUTO = 0, FKDA_BACKEND_CUDA = 1, FKDA_BACKEND_CPU = 2, FKDA_BACKEND_REF = 3 } fkda_backend;
#define FKDA_BACKEND_COUNT 4   /* AUTO takes the first of CUDA, CPU, REF that accepts the desc */

typedef enum fkda_memory { FKDA_MEMORY_HOST = 0, FKDA_MEMORY_CUDA = 1 } fkda_memory;    /* where every pointer of the args points */

typedef enum fkda_gate {
    FKDA_GATE_BOUNDED = 0,       /* g raw [B,T,HV,K]; log a = lower_bound * sigmoid(exp(A_log) (g + dt_bias)), lower_bound in [-5,0] */
    FKDA_GATE_SOFTPLUS = 1,      /* g raw; log a = -exp(A_log) softplus(g + dt_bias); lower_bound unused */
    FKDA_GATE_PRECOMPUTED = 2    /* g is log a, natural logarithm; values above 0 count as 0; A_log and dt_bias must be absent */
} fkda_gate;                     /* A_log absent: exp(A_log) = 1.  dt_bias absent: 0 */

typedef enum fkda_beta { FKDA_BETA_LOGIT = 0 /* b = m sigmoid(beta) */, FKDA_BETA_ACTIVATED = 1 /* b = m beta */ } fkda_beta;
typedef enum fkda_qk_norm { FKDA_QK_NORM_L2 = 0, FKDA_QK_NORM_NONE = 1 /* q^ = q, k^ = k */ } fkda_qk_norm;
typedef enum fkda_state_layout { FKDA_STATE_NHVK = 0, FKDA_STATE_NHKV = 1 } fkda_state_layout;      /* last letter contiguous */
typedef enum fkda_slot_null {
    FKDA_SLOT_NULL_NEGATIVE = 0, FKDA_SLOT_NULL_NOT_POSITIVE = 1, FKDA_SLOT_NULL_NONE = 2 /* decode alone */
} fkda_slot_null;

/* Which of the states that the tokens of a decode call lead to are written to args.state. */
typedef enum fkda_commit {
    FKDA_COMMIT_LAST = 0,        /* that after the last token, over the one before the first */
    FKDA_COMMIT_NONE = 1,        /* none: args.state is only read */
    FKDA_COMMIT_ACCEPTED = 2,    /* that after num_accepted[n] tokens, over the one before the first; with 0 nothing is written */
    FKDA_COMMIT_EACH = 3         /* that after token t to slots[n][t]; the first token goes on from slots[n][num_accepted[n] - 1] */
} fkda_commit;

#define FKDA_FLAG_INITIAL_MASK   1u   /* args.initial_mask is given */
#define FKDA_FLAG_CHECK_SEQLENS  2u   /* CUDA: copy cu_seqlens to the host and check it; blocks the call. fkda_fwd alone */
#define FKDA_FLAG_NO_OUT         4u   /* args.q and args.out are NULL: only states are computed. fkda_decode alone */
#define FKDA_FLAG_NULL_IS_PADDING 8u  /* a sequence that begins with a null slot is a row of padding: zeros in out, whatever its inputs, and nothing
                                         else of it is read or written. Not with FKDA_FLAG_NO_OUT. fkda_decode alone */

/* Bits of *args.device_status: what a CUDA call found in device memory. On host memory the call is refused instead. */
#define FKDA_DEVICE_SEQLENS_BROKEN     1u   /* cu_seqlens broke its rule */
#define FKDA_DEVICE_SLOT_BROKEN        2u   /* a slot index was not below slot_count: it was read as 0, and nothing was written there */
#define FKDA_DEVICE_CHECKPOINT_BROKEN  4u   /* a checkpoint lay beyond its sequence, or its row beyond checkpoint_count: not written */
#define FKDA_DEVICE_ACCEPTED_BROKEN    8u   /* a num_accepted lay outside its range: the nearest inside was taken */
#define FKDA_DEVICE_PARENT_BROKEN     16u   /* a parent was neither -1 nor an earlier token: -1 was taken */

/* ---------------------------------------------------------------- what is asked */

/* A tensor [B,T,heads,width]; width contiguous (beta: width 1). Strides in elements; 0: as if contiguous. A stride along a
 * dimension of size 1 or 0 is ignored. No two elements may share memory. */
typedef struct fkda_tensor_desc {
    int64_t batch_stride, token_stride, head_stride;
    fkda_dtype dtype;
    uint32_t reserved;           /* 0 */
} fkda_tensor_desc;

/* States: one [V,K] or [K,V] matrix per value head, contiguous; HV of them make one row. Inside they are always fp32 (ref: double).
 *
 * Dense (slot_count 0): row n belongs to sequence n. A pool (slot_count > 0) is rows called slots, any distance apart, and an array of args with the
 * slot of each sequence (of each checkpoint). A null index means no state: it reads 0 and writes nothing. An index that is neither null
 * nor below slot_count is FKDA_ERR_BAD_VALUE on host memory; on CUDA memory it counts as null and sets FKDA_DEVICE_SLOT_BROKEN. Indices
 * that nobody needs are not looked at: initial_slots of a sequence that initial_mask starts from 0, checkpoint_slots of a skipped row. */
typedef struct fkda_state_desc {
    fkda_dtype dtype;            /* NONE: absent (an absent initial state is 0), BF16, F32 */
    fkda_state_layout layout;
    int64_t row_stride;          /* elements between rows or slots; 0: HV*K*V. Ignored where there is one */
    int64_t slot_count;          /* 0: dense.  > 0: a pool of so many slots */
    fkda_dtype slot_dtype;       /* pool: dtype of its indices, I32 or I64 */
    fkda_slot_null slot_null;    /* pool: which indices are null: below 0, below 1, or none: then one below 0 breaks the rule as
                                    one does that is not below slot_count */
} fkda_state_desc;

typedef struct fkda_fwd_desc {
    size_t struct_size;          /* sizeof(fkda_fwd_desc) */
    fkda_backend backend;        /* who computes; AUTO: the first that can */
    fkda_memory memory;          /* where the tensors lie */
    int32_t device;              /* CUDA: the device's ordinal */
    int32_t threads;             /* CPU: at most so many; 0: as OMP_NUM_THREADS says, else no limit. Never more than the CPUs that the
                                    planning thread may use, and the cgroup's CPU quota. Results do not depend on it */
    uint32_t flags;              /* FKDA_FLAG_* */
    uint32_t reserved;           /* 0 */

    int64_t B, T;                /* B >= 0 (packed: 1), T >= 0 (packed: all tokens) */
    int64_t N;                   /* packed: sequences, >= 0.  Dense: 0 or B.  Without a sequence nothing is read or written */
    int64_t H, HV, K, V;         /* HV 0: H */

    fkda_tensor_desc q, k, v, g, beta, out;
    fkda_dtype cu_seqlens;       /* NONE: dense.  I32, I64: packed */
    fkda_dtype A_log, dt_bias;   /* NONE: absent.  BF16, F32; contiguous */
    fkda_gate gate;
    float lower_bound;           /* bounded gate: in [-5, 0]; literal */
    fkda_beta beta_kind;
    int32_t beta_multiplier;     /* m: 0 or 1: 1.  2 allows negative eigenvalues */
    fkda_qk_norm qk_norm;
    float scale;                 /* finite; literal, 0 gives out = 0.  Usual: 1/sqrt(K) */

    fkda_state_desc initial_state, final_state;
    fkda_state_desc checkpoints;     /* rows of args.checkpoint_state; NONE: no checkpoints, and the fields below do not matter */
    int64_t checkpoint_every;        /* 0: at args.checkpoint_offsets.  e > 0: after e, 2e, ... tokens of each sequence */
    int64_t checkpoint_count;        /* rows of args.checkpoint_state; of a pool: elements of args.checkpoint_slots */
    int64_t checkpoints_per_sequence;     /* C, with checkpoint_every 0.  0: 1.  N*C may not exceed checkpoint_count */
    fkda_dtype checkpoint_offset_dtype;   /* of args.checkpoint_offsets.  NONE: I64.  I32 */
    uint32_t unaligned;              /* CUDA: bits 1u << FKDA_ARG_*. These addresses may be no multiple of FKDA_COPY_ALIGN, only of their element.
                                        The workspace has room for copies of them, which a run makes where its kernel needs them */
} fkda_fwd_desc;

/* Pointers into desc.memory, except where "host" is said. NULL exactly where the desc says that a tensor is absent or has no element.
 * Inputs are only read. What is written may overlap nothing, with one exception: final_state may be initial_state itself, with the same state
 * desc. Then each sequence reads its state before the call writes over it, in a pool also from one slot to another, provided that no
 * sequence writes a slot that another reads. No two sequences, and no two checkpoints, may write one slot. On host memory the call is
 * refused where a rule on slots is broken (FKDA_ERR_ALIAS); on CUDA memory such slots are undefined afterwards.
 *
 * A checkpoint is the state of a sequence after so many of its tokens in this call. It has the bits of the final state of a call that ends
 * there, and no bit of out or of the final states depends on it. Two ways to say where, C = checkpoints_per_sequence, e = checkpoint_every:
 *     e = 0    checkpoint_offsets [N,C], in any order; row n*C + j holds the state of sequence n after checkpoint_offsets[n][j] tokens.
 *              <= 0: that row is skipped.  Beyond the sequence's length: FKDA_ERR_BAD_VALUE
 *     e > 0    sequence n has floor(length / e) checkpoints, in the rows behind those of the sequences before it.  No
 *              checkpoint_offsets.  More rows than checkpoint_count: FKDA_ERR_BAD_VALUE
 * On CUDA memory a checkpoint that is an error here is not written and sets FKDA_DEVICE_CHECKPOINT_BROKEN. Rows without a checkpoint are not touched. */
typedef struct fkda_fwd_args {
    size_t struct_size;              /* sizeof(fkda_fwd_args) */
    const void *q, *k, *v, *g, *beta;
    void *out;                       /* every element of every sequence is written, and nothing else */
    const void *A_log;               /* [HV] */
    const void *dt_bias;             /* [HV,K] */
    const void *cu_seqlens;          /* [N+1], 0 = c[0] <= ... <= c[N] <= T; rows from c[N] on are not touched.  CUDA: a broken one
                                        makes all of out, final_state and checkpoint_state NaN */
    const void *cu_seqlens_host;     /* optional copy on the host, same dtype; CUDA uses it to plan and to check */
    const void *initial_state;
    void *final_state;               /* written for every sequence (null slots: not); an empty one gets its initial state */
    const void *initial_slots;       /* [N], where initial_state is a pool */
    const void *final_slots;         /* [N], where final_state is a pool */
    const uint8_t *initial_mask;     /* [N], with FKDA_FLAG_INITIAL_MASK; 0: this sequence starts from 0 */
    void *checkpoint_state;
    const void *checkpoint_offsets;  /* [N,C], where checkpoint_every is 0 */
    const void *checkpoint_slots;    /* [checkpoint_count], where checkpoints is a pool: the slot of each row */
    uint32_t *device_status;         /* CUDA, optional: FKDA_DEVICE_* bits are set there when the work has run, never cleared */
} fkda_fwd_args;

typedef void *fkda_stream;           /* a cudaStream_t for CUDA memory; ignored for host memory */

/* A plan of any operation: plain data, owned and freely copied by the caller; valid in this process only. Its size never changes. */
typedef struct fkda_plan { uint64_t opaque[192]; } fkda_plan;

/* ---------------------------------------------------------------- simple */

/* Checks, plans and runs. On host memory it returns when the outputs are written; on CUDA memory when the work is in the stream.
 * workspace: at least fkda_fwd_workspace_size bytes in desc.memory, aligned to FKDA_WORKSPACE_ALIGN, contents irrelevant before and
 * undefined after; one workspace serves one call at a time. NULL if the size is 0, which is a multiple of FKDA_WORKSPACE_ALIGN:
 *     void *workspace = aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes);        host memory
 *     cudaMalloc(&workspace, bytes);                                       CUDA memory */
FKDA_API fkda_status fkda_fwd(const fkda_fwd_desc *desc, const fkda_fwd_args *args, void *workspace, size_t workspace_bytes,
                              fkda_stream stream);
#define FKDA_WORKSPACE_ALIGN 256

/* ---------------------------------------------------------------- planned */

/* Detects CPU and GPU and reads, once, the environment (FKDA_CPU_ISA = scalar | avx2 | avx512 | neon, in any case; OMP_NUM_THREADS) and the
 * CPU quota. Optional: the first other call does it. Call it before stream capture or before timing. Idempotent. */
FKDA_API fkda_status fkda_init(void);

/* Checks desc, picks the backend, decides how. *plan is written only on FKDA_OK. FKDA_ERR_UNSUPPORTED: fkda_last_error() gives
 * every backend's reason. FKDA_ERR_BAD_VALUE also if FKDA_CPU_ISA names no instruction set of this machine. */
FKDA_API fkda_status fkda_fwd_plan(const fkda_fwd_desc *desc, fkda_plan *plan);

/* Runs a plan. workspace as for fkda_fwd. Several threads may run one plan at once, each with its own workspace. */
FKDA_API fkda_status fkda_fwd_run(const fkda_plan *plan, const fkda_fwd_args *args, void *workspace, size_t workspace_bytes,
                                  fkda_stream stream);

/* ---------------------------------------------------------------- questions */

/* Scratch that desc needs; a pure host function. *bytes is written only on FKDA_OK. */
FKDA_API fkda_status fkda_fwd_workspace_size(const fkda_fwd_desc *desc, size_t *bytes);
FKDA_API size_t fkda_plan_workspace_size(const fkda_plan *plan);    /* 0 if it is not a plan */

/* Would desc run here, and where? FKDA_OK and *backend (never AUTO), or the status that fkda_fwd_plan would give, *backend untouched
 * and the reasons in fkda_last_error(). backend may be NULL. */
FKDA_API fkda_status fkda_fwd_query(const fkda_fwd_desc *desc, fkda_backend *backend);

/* Arguments that a copy can stand for. */
typedef enum fkda_arg {
    FKDA_ARG_Q = 0, FKDA_ARG_K = 1, FKDA_ARG_V = 2, FKDA_ARG_G = 3, FKDA_ARG_BETA = 4, FKDA_ARG_OUT = 5, FKDA_ARG_A_LOG = 6,
    FKDA_ARG_DT_BIAS = 7, FKDA_ARG_CU_SEQLENS = 8, FKDA_ARG_INITIAL_STATE = 9, FKDA_ARG_FINAL_STATE = 10,
    FKDA_ARG_CHECKPOINT_STATE = 11, FKDA_ARG_INITIAL_SLOTS = 12, FKDA_ARG_FINAL_SLOTS = 13, FKDA_ARG_CHECKPOINT_SLOTS = 14,
    FKDA_ARG_CHECKPOINT_OFFSETS = 15
} fkda_arg;

/* Which arguments must the caller copy before fkda_fwd takes the call, and into what? FKDA_OK: bit 1u << FKDA_ARG_* of *copies is set for each of
 * them, and *takes is a desc that fkda_fwd_plan accepts: desc itself, with defaults filled in, but these arguments contiguous and in the dtype
 * (states: also the layout) that is taken, and with the bits of `unaligned` that the other addresses need. The copies are to be aligned to
 * FKDA_COPY_ALIGN; of out, final_state and checkpoint_state the result is to be copied back. The copy of a pool is a pool of as many slots; one
 * that is written to (final_state, checkpoint_state) begins with the contents, as not every slot is written.
 * *copies is 0 exactly where *takes takes the call as it lies. Strides, and addresses of whole elements, never need a copy by the caller
 * (fkda_plan_copies). Where no copy helps: the status that fkda_fwd_plan would give, nothing written.
 * Of args only addresses are looked at; NULL, also in its place: suitably aligned. takes may be desc. */
FKDA_API fkda_status fkda_fwd_advise(const fkda_fwd_desc *desc, const fkda_fwd_args *args, fkda_fwd_desc *takes, uint32_t *copies);
#define FKDA_COPY_ALIGN 16

/* ---------------------------------------------------------------- decode */

/* A few new tokens for each of many sequences. The state of each sequence is read, taken through its tokens and, as desc.commit says, written
 * back in place. What a token means, and the fields that fkda_fwd_desc has too, are as there. Shapes, with S the most tokens of a sequence:
 *     dense     every sequence has S tokens: q, k [N,S,H,K]  v, out [N,S,HV,V]  g [N,S,HV,K]  beta [N,S,HV]; batch_stride steps over sequences
 *     packed    sequence n has the tokens [c[n], c[n+1]) of cu_seqlens, 0 to S of them: q, k [1,T,H,K] and so on
 * S tokens in one call give the bits of S calls with one token each, where states are fp32 in memory. (bf16: they are rounded once a call.) No
 * bit of out or of a state depends on commit, on step_states, or on what other states are written; but for calls on CUDA without step_states that
 * have commit NONE and S of 4 or more, or commit LAST and S of 6 or more: out, which depends on a token and those before it, and the state behind
 * the last have other bits. docs/numerics.md says how near to the others.
 *
 * Speculative tokens, from cheap to general (docs/decode.md):
 *     commit NONE, then NO_OUT and ACCEPTED     out of all tokens; once it is known how many count, a call on the same k, v, g, beta keeps those
 *     commit EACH                               every token's state in a slot of its own; the next call says where to go on
 *     step_states, parent                       every token's state in a buffer; tokens may be a tree */
#define FKDA_DECODE_MAX_TOKENS 8

typedef struct fkda_decode_desc {
    size_t struct_size;          /* sizeof(fkda_decode_desc) */
    fkda_backend backend;
    fkda_memory memory;
    int32_t device;
    int32_t threads;
    uint32_t flags;              /* FKDA_FLAG_INITIAL_MASK, FKDA_FLAG_NO_OUT, FKDA_FLAG_NULL_IS_PADDING */
    uint32_t reserved;           /* 0 */

    int64_t N;                   /* sequences, >= 0.  Without one nothing is read or written */
    int64_t S;                   /* dense: tokens of every sequence.  Packed: the most that one has.  1 ... FKDA_DECODE_MAX_TOKENS */
    int64_t T;                   /* packed: all token rows, >= 0.  Dense: 0 or S */
    int64_t H, HV, K, V;         /* HV 0: H */

    fkda_tensor_desc q, k, v, g, beta, out;
    fkda_dtype cu_seqlens;       /* NONE: dense.  I32, I64: packed */
    fkda_dtype A_log, dt_bias;
    fkda_gate gate;
    float lower_bound;
    fkda_beta beta_kind;
    int32_t beta_multiplier;
    fkda_qk_norm qk_norm;
    float scale;
    uint32_t reserved2;          /* 0 */

    fkda_state_desc state;       /* BF16 or F32; dense, or a pool with args.slots */

    fkda_commit commit;
    fkda_dtype num_accepted;     /* I32, I64: with commit ACCEPTED, and where it is wanted with EACH.  NONE: absent */
    int64_t slots_per_sequence;  /* C, with commit EACH: args.slots is [N,C].  0: S.  At least S */
    int64_t slots_stride;        /* with commit EACH: elements between its rows.  0: C */
    fkda_state_desc step_states; /* the state after every token: row n*P + t of args.step_states.  NONE: absent.  BF16, F32; dense, layout of state */
    int64_t step_states_per_sequence;    /* P.  0: S.  At least S */
    int64_t parent_stride;       /* elements between rows of args.parent.  0: S */
    fkda_dtype parent;           /* I32, I64: tokens are a tree; needs commit NONE and step_states.  NONE: each goes on from the one before */
    uint32_t reserved3;          /* 0 */
} fkda_decode_desc;

/* As fkda_fwd_args. A sequence without tokens is not touched: its state stays, whatever initial_mask says; so does one of which nothing is
 * accepted. A null slot reads 0 and writes no state, out is written (but see FKDA_FLAG_NULL_IS_PADDING). Where states are written, no two sequences may have one slot, with commit EACH
 * no two of the entries of slots that are used: FKDA_ERR_ALIAS on host memory; on CUDA memory such slots are undefined. */
typedef struct fkda_decode_args {
    size_t struct_size;              /* sizeof(fkda_decode_args) */
    const void *q, *k, *v, *g, *beta;
    void *out;                       /* every element of every sequence is written, and nothing else */
    const void *A_log;               /* [HV] */
    const void *dt_bias;             /* [HV,K] */
    const void *cu_seqlens;          /* [N+1], 0 = c[0] <= ... <= c[N] <= T, c[n+1] - c[n] <= S.  CUDA: sequences whose entries break this
                                        are not touched and set FKDA_DEVICE_SEQLENS_BROKEN */
    void *state;                     /* read, and written as desc.commit says */
    const void *slots;               /* [N], where state is a pool; with commit EACH [N,C], of which the entries that are read or written are used */
    const uint8_t *initial_mask;     /* [N], with FKDA_FLAG_INITIAL_MASK; 0: this sequence starts from 0, whatever its slot holds */
    uint32_t *device_status;         /* CUDA, optional: FKDA_DEVICE_* bits are set there when the work has run, never cleared */
    const void *num_accepted;        /* [N].  ACCEPTED: 0 to the tokens of the sequence.  EACH: 1 to C; absent: 1.  Otherwise FKDA_ERR_BAD_VALUE;
                                        CUDA: FKDA_DEVICE_ACCEPTED_BROKEN.  Of sequences without tokens, with EACH also of masked ones, not read */
    void *step_states;               /* [N,P,HV,V,K]; rows of tokens that there are not are left untouched */
    const void *parent;              /* [N,S]: token t goes on from step state parent[n][t] < t, as it is stored; -1: from the initial state.
                                        Otherwise FKDA_ERR_BAD_VALUE; CUDA: FKDA_DEVICE_PARENT_BROKEN.  Beyond the sequence's tokens not read */
} fkda_decode_args;

/* As the functions of the forward pass. Plans are run by fkda_decode_run. */
FKDA_API fkda_status fkda_decode(const fkda_decode_desc *desc, const fkda_decode_args *args, void *workspace, size_t workspace_bytes,
                                 fkda_stream stream);
FKDA_API fkda_status fkda_decode_plan(const fkda_decode_desc *desc, fkda_plan *plan);
FKDA_API fkda_status fkda_decode_run(const fkda_plan *plan, const fkda_decode_args *args, void *workspace, size_t workspace_bytes,
                                     fkda_stream stream);
FKDA_API fkda_status fkda_decode_workspace_size(const fkda_decode_desc *desc, size_t *bytes);
FKDA_API fkda_status fkda_decode_query(const fkda_decode_desc *desc, fkda_backend *backend);

/* ---------------------------------------------------------------- decode with what stands around it */

/* One token for each of many sequences, in one pass over their states: convolution, step and gated norm, as the layers of models have them. Parts that
 * the desc leaves out are left out. For one sequence and one head, all of it in fp32 (ref: double):
 *
 *     y = bias + w[0] t0 + w[1] t1 + w[2] t2 + w[3] x;   (t0, t1, t2) <- (t1, t2, x);   q, k, v = y sigmoid(y)     every channel of q, k and v
 *     o as of fkda_decode, S updated in place
 *     out = o / sqrt(mean(o^2) + norm_eps) * norm_weight * sigmoid(output_gate)
 *
 * with x what args.q, k and v point to. Nothing is rounded but out, once, and S where it is stored; the taps t are moved as they are, without a change of
 * a bit. Without a convolution q, k, v are x; without a norm out = o. The chain of single calls rounds q, k, v and o to bf16 too. */
#define FKDA_CONV_WIDTH 4

typedef struct fkda_decode_fused_desc {
    size_t struct_size;          /* sizeof(fkda_decode_fused_desc) */
    fkda_backend backend;
    fkda_memory memory;
    int32_t device;
    int32_t threads;
    uint32_t flags;              /* FKDA_FLAG_INITIAL_MASK or 0 */
    uint32_t reserved;           /* 0 */

    int64_t N;                   /* sequences, >= 0.  Without one nothing is read or written */
    int64_t H, K, V;             /* as many value heads as query heads.  V = K with a convolution */

    fkda_tensor_desc q, k, v, g, beta, out;   /* [N,1,H,width]: batch_stride steps over sequences. Of a packed row q|k|v: its pitch */
    fkda_tensor_desc output_gate;             /* [N,1,H,V], logits; only with norm_weight */
    fkda_tensor_desc conv_weight;             /* dtype NONE: no convolution.  Each of the three is [1,4,H,K]: token_stride steps over taps, oldest first */
    fkda_tensor_desc conv_state;              /* only with conv_weight, in the dtype of q, k and v, which is one.  [rows,3,C,1], C = 3*H*K channels, those of
                                                 q first, then k, v: batch_stride steps over rows or slots, token_stride over taps, oldest first,
                                                 head_stride over channels; all 0: [rows,3,C].  [rows,C,3]: token_stride 1, head_stride 3, batch_stride 3*C */
    fkda_state_desc state;       /* BF16 or F32; dense, or a pool with args.slots. Row or slot i of it and of the conv_state belong together */
    fkda_dtype A_log, dt_bias;
    fkda_dtype conv_bias;        /* NONE: 0.  BF16, F32; contiguous; only with conv_weight */
    fkda_dtype norm_weight;      /* NONE: no norm.  BF16, F32; contiguous */
    fkda_gate gate;
    float lower_bound;
    fkda_beta beta_kind;
    int32_t beta_multiplier;
    fkda_qk_norm qk_norm;
    float scale;
    float norm_eps;              /* with norm_weight: positive and normal; literal */
    uint32_t reserved2;          /* 0 */
} fkda_decode_fused_desc;

/* As fkda_decode_args, except: a sequence with a null slot, a row of padding, gets zeros in out, whatever its inputs; no state is read or written. */
typedef struct fkda_decode_fused_args {
    size_t struct_size;              /* sizeof(fkda_decode_fused_args) */
    const void *q, *k, *v, *g, *beta;
    void *out;                       /* every element of every sequence is written, and nothing else */
    const void *A_log;               /* [H] */
    const void *dt_bias;             /* [H,K] */
    const void *output_gate;
    const void *norm_weight;         /* [V] */
    const void *conv_weight_q, *conv_weight_k, *conv_weight_v;
    const void *conv_bias_q, *conv_bias_k, *conv_bias_v;    /* [H,K] each */
    void *conv_state;                /* read and written */
    void *state;                     /* read and written */
    const void *slots;               /* [N], where state is a pool */
    const uint8_t *initial_mask;     /* [N], with FKDA_FLAG_INITIAL_MASK; 0: this sequence starts from 0, its taps too */
    uint32_t *device_status;         /* CUDA, optional: FKDA_DEVICE_* bits are set there when the work has run, never cleared */
} fkda_decode_fused_args;

/* As the functions of the forward pass. Plans are run by fkda_decode_fused_run. */
FKDA_API fkda_status fkda_decode_fused(const fkda_decode_fused_desc *desc, const fkda_decode_fused_args *args, void *workspace, size_t workspace_bytes,
                                       fkda_stream stream);
FKDA_API fkda_status fkda_decode_fused_plan(const fkda_decode_fused_desc *desc, fkda_plan *plan);
FKDA_API fkda_status fkda_decode_fused_run(const fkda_plan *plan, const fkda_decode_fused_args *args, void *workspace, size_t workspace_bytes,
                                           fkda_stream stream);
FKDA_API fkda_status fkda_decode_fused_workspace_size(const fkda_decode_fused_desc *desc, size_t *bytes);
FKDA_API fkda_status fkda_decode_fused_query(const fkda_decode_fused_desc *desc, fkda_backend *backend);

/* ---------------------------------------------------------------- plans, backends, the library */

/* Who runs the plan; FKDA_BACKEND_AUTO if it is not a plan. */
FKDA_API fkda_backend fkda_plan_backend(const fkda_plan *plan);

/* Bits 1u << FKDA_ARG_* of the arguments that every run of the plan copies through the workspace, because the kernel does not take their strides:
 * CUDA only, each costs one more pass over the tensor, of pools over the slots that are used. Those of desc.unaligned may come on top. */
FKDA_API uint32_t fkda_plan_copies(const fkda_plan *plan);    /* 0 if it is not a plan */

/* One line, for example "cpu: avx512, 32 tokens per chunk, 32 heads on 2 threads, workspace 0.4 MiB"; where AUTO fell back on the slow
 * reference, it ends with the reason. Writes at most `size` bytes with the
 * final 0 and returns the length without it, as snprintf does. */
FKDA_API size_t fkda_plan_describe(const fkda_plan *plan, char *text, size_t size);

/* FKDA_OK if the backend can run anything on this machine. text (may be NULL if size is 0): what it runs on, or why it is off. */
FKDA_API fkda_status fkda_backend_status(fkda_backend backend, char *text, size_t size);
FKDA_API const char *fkda_backend_name(fkda_backend backend);    /* "cuda"; "?" for a stranger */

FKDA_API int fkda_version(void);                     /* 10000*major + 100*minor + patch of the library that is loaded */
FKDA_API const char *fkda_version_string(void);      /* "0.1.0" */
FKDA_API const char *fkda_build_info(void);          /* compiler, backends compiled in, thread library */

#ifdef __cplusplus
}
#endif
#endif
