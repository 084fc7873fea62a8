/* Where sequences begin and end on the token axis. Host memory only. */
#ifndef FKDAI_SEQUENCES_H
#define FKDAI_SEQUENCES_H

#include "flashkda.h"

/* Tokens [begin, end) of one sequence, in row `batch` of the batch dimension. */
typedef struct fkdai_sequence {
    int64_t batch, begin, end;
} fkdai_sequence;

/* Sequence n of a resolved desc; cu_seqlens is the args' pointer, checked. */
fkdai_sequence fkdai_sequence_at(const fkda_fwd_desc *desc, const void *cu_seqlens, int64_t n);

/* 0 = c[0] <= ... <= c[N] <= T, or FKDA_ERR_CU_SEQLENS naming the first entry that breaks it. `source`: "", or where
 * the array was read when that is not args.cu_seqlens, as the end of the sentence. */
fkda_status fkdai_check_cu_seqlens(const fkda_fwd_desc *desc, const void *cu_seqlens, const char *source);

#endif
