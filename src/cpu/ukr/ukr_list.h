/* Every micro-kernel, by op. */
#ifndef FKDAI_UKR_LIST_H
#define FKDAI_UKR_LIST_H

#include "ukr.h"

fkdai_ukr_gate ukr_gate_1x4__scalar, ukr_gate_1x8__avx2, ukr_gate_1x16__avx512;
fkdai_ukr_close ukr_close_1x4__scalar, ukr_close_1x8__avx2, ukr_close_1x16__avx512;
fkdai_ukr_sigmoid ukr_sigmoid_1x4__scalar, ukr_sigmoid_1x8__avx2, ukr_sigmoid_1x16__avx512;
fkdai_ukr_load_row ukr_load_row_1x4__scalar, ukr_load_row_1x8__avx2, ukr_load_row_1x16__avx512;
fkdai_ukr_store_row ukr_store_row_1x4__scalar, ukr_store_row_1x8__avx2, ukr_store_row_1x16__avx512;
fkdai_ukr_relate ukr_relate_4x4__scalar, ukr_relate_4x4__avx2, ukr_relate_4x4__avx512;
fkdai_ukr_solve ukr_solve_4x8__scalar, ukr_solve_6x16__avx2, ukr_solve_8x32__avx512;
fkdai_ukr_out ukr_out_4x8__scalar, ukr_out_6x16__avx2, ukr_out_8x32__avx512;
fkdai_ukr_advance ukr_advance_4x8__scalar, ukr_advance_4x16__avx2, ukr_advance_8x32__avx512;
fkdai_ukr_step ukr_step_1x8__scalar, ukr_step_1x32__avx2, ukr_step_1x32__avx512;

#endif
