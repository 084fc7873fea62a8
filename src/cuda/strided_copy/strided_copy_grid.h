/* Which blocks copy what, and in which units. Pure functions of a list of copies: the launcher and the emulator ask the same ones. */
#ifndef FKDAI_STRIDED_COPY_GRID_H
#define FKDAI_STRIDED_COPY_GRID_H

#include "backend/cuda_copy.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Sizes of the device code. A tile is what a warp moves at once. */
enum { FKDAI_COPY_THREADS = 256, FKDAI_COPY_WARP = 32, FKDAI_COPY_TILE_ROWS = 4, FKDAI_COPY_TILES_OF_WARP = 2 };

typedef struct fkdai_copy_grid {
    int first_block[FKDAI_COPY_MOST + 1];    /* of each copy, whose blocks take turns where it is long. Behind the last: those of marks */
    int unit[FKDAI_COPY_MOST];               /* bytes that the strided side lets be moved at once: 2, 4, 8 or 16 */
    int blocks;
} fkdai_copy_grid;

fkdai_copy_grid fkdai_copy_make_grid(const fkdai_copies *copies);

#ifdef __cplusplus
}
#endif
#endif
