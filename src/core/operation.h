/*
 * An operation is a row: what a caller may ask of it and with which arguments. plan.c, validate_args.c and api.c work over rows and know no
 * operation by name. op_<name>.c holds the row of one.
 */
#ifndef FKDAI_OPERATION_H
#define FKDAI_OPERATION_H

#include <string.h>

#include "flashkda.h"

/* The list of operations, X(NAME, name). A line gives the enumerator FKDAI_OP_NAME, the row fkdai_op_name, and room for fkda_name_desc and
 * fkda_name_args. A test has a longer list. */
#ifndef FKDAI_OPERATIONS
#define FKDAI_OPERATIONS(X) X(FWD, fwd) X(DECODE, decode) X(DECODE_FUSED, decode_fused)
#endif

#define FKDAI_OPERATION_ID(NAME, name)   FKDAI_OP_##NAME,
#define FKDAI_OPERATION_DESC(NAME, name) fkda_##name##_desc name;
#define FKDAI_OPERATION_ARGS(NAME, name) fkda_##name##_args name;
#define FKDAI_OPERATION_ROW(NAME, name)  extern const struct fkdai_operation fkdai_op_##name;

typedef enum fkdai_operation_id { FKDAI_OPERATIONS(FKDAI_OPERATION_ID) FKDAI_OP_COUNT } fkdai_operation_id;

/* Every desc begins with these fields. */
typedef struct fkdai_head {
    size_t struct_size;
    fkda_backend backend;
    fkda_memory memory;
    int32_t device;
    int32_t threads;
    uint32_t flags;
    uint32_t reserved;
} fkdai_head;

#define FKDAI_ASSERT_HEAD(type)                                                                                                     \
    _Static_assert(offsetof(type, backend) == offsetof(fkdai_head, backend) && offsetof(type, memory) == offsetof(fkdai_head, memory) && \
                   offsetof(type, device) == offsetof(fkdai_head, device) && offsetof(type, threads) == offsetof(fkdai_head, threads) && \
                   offsetof(type, flags) == offsetof(fkdai_head, flags) && offsetof(type, reserved) == offsetof(fkdai_head, reserved),   \
                   #type " does not begin as every desc does")

typedef union fkdai_desc {
    fkdai_head head;
    FKDAI_OPERATIONS(FKDAI_OPERATION_DESC)
} fkdai_desc;

typedef union fkdai_args {
    size_t struct_size;
    FKDAI_OPERATIONS(FKDAI_OPERATION_ARGS)
} fkdai_args;

/* A public struct that grows: fields are appended, so that a caller's struct_size tells which of them it has. */
typedef struct fkdai_struct {
    const char *type;              /* "fkda_fwd_desc" */
    const size_t *sizes;           /* that versions have had, ascending; the last is today's */
    int count;
} fkdai_struct;

/* The size of a struct that ended with this field. Today's equals sizeof: a struct has no padding at its end that a later field could take. */
#define FKDAI_END_OF(type, field) (offsetof(type, field) + sizeof(((type *)0)->field))

typedef enum fkdai_access { FKDAI_READ, FKDAI_WRITE } fkdai_access;

/* A pointer of the args. Argument i is bit i of a public mask of FKDA_ARG_*, where it has one. */
typedef struct fkdai_argument {
    const char *name;
    size_t offset;                 /* in the args */
    fkdai_access access;
    int may_be_null;               /* whatever the desc says */
} fkdai_argument;

enum { FKDAI_MAX_ARGUMENTS = 32 };

/* What the desc says of an argument. */
typedef struct fkdai_extent {
    int64_t bytes;                 /* from the first element to behind the last; 0: no element */
    int64_t align;                 /* of its element; 0: absent */
} fkdai_extent;

/* Of all arguments, measured once for a plan. */
typedef struct fkdai_extents {
    int64_t bytes[FKDAI_MAX_ARGUMENTS];
    uint8_t align[FKDAI_MAX_ARGUMENTS];
} fkdai_extents;

typedef struct fkdai_operation {
    fkdai_operation_id id;
    const char *name;              /* "fwd", as in fkda_fwd_plan */
    fkdai_struct desc, args;
    uint32_t flags;                /* that a desc may have */
    const fkdai_argument *arguments;
    int argument_count;

    /* The head of desc is checked. Checks everything else that is wrong by itself and fills in every default. Twice is as good as once. */
    fkda_status (*resolve)(fkdai_desc *desc);

    /* Refuses what is well formed, but offered by no backend. From here on desc is resolved. */
    fkda_status (*refuse)(const fkdai_desc *desc);

    /* Nothing is to be read or written. */
    int (*is_empty)(const fkdai_desc *desc);

    /* Extents of all arguments, in the order of the table. */
    void (*measure)(const fkdai_desc *desc, fkdai_extent *extents);

    /* May argument `written` lie exactly where argument `read` lies? */
    int (*may_be_in_place)(const fkdai_desc *desc, int written, int read);

    /* Bytes of workspace that check_values uses. NULL: none. */
    int64_t (*check_bytes)(const fkdai_desc *desc);

    /* Checks values that the host can read. The pointers and the workspace are checked. */
    fkda_status (*check_values)(const fkdai_desc *desc, const void *args, void *workspace);

    /* Describes as copies, and marks in *copies, the arguments that no backend takes as they lie but takes as a copy. args may be NULL:
     * addresses are unknown. */
    fkda_status (*suit)(fkdai_desc *desc, const void *args, uint32_t *copies);
} fkdai_operation;

FKDAI_OPERATIONS(FKDAI_OPERATION_ROW)

/* The pointer of an argument. */
static inline const void *fkdai_pointer(const fkdai_operation *operation, const void *args, int argument)
{
    const void *pointer;
    memcpy(&pointer, (const char *)args + operation->arguments[argument].offset, sizeof pointer);
    return pointer;
}

/* A caller's desc, of any size that is accepted, checked by itself, with every default filled in. */
fkda_status fkdai_resolve(const fkdai_operation *operation, const void *desc, fkdai_desc *resolved);

/* *known: args as this library knows them; args itself, or a copy in *room if the caller's struct has another size. */
fkda_status fkdai_know_args(const fkdai_operation *operation, const void *args, fkdai_args *room, const void **known);

/* desc as the caller's struct, which begins with the size that it has. */
void fkdai_hand_back(const fkdai_operation *operation, const fkdai_desc *desc, size_t struct_size, void *to);

#endif
