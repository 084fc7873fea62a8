/*
 * The first call of a process, right behind fkda_init, is captured in a graph (global mode: any call that would synchronise or allocate
 * breaks the capture). 1,000 replays with changing inputs and cu_seqlens then give the bits of plain calls.
 *
 *     first_capture HEADS [SEQUENCES [strided]]      default 8: few heads need no schedule; more than 512 sequences a plan kernel before
 *                                                    strided: one head less, in rows that only a copy brings to the kernel
 */
#include "public_call.h"

#include <string.h>

enum { REPLAYS = 1000, CHECKED = 100, POISON = 0xff };

static int same_as_plain(const public_call *c, char *replayed, char *plain)
{
    MUST_CUDA(cudaMemcpy(replayed, c->args.out, c->out_bytes, cudaMemcpyDeviceToHost));
    MUST_CUDA(cudaMemcpy(replayed + c->out_bytes, c->args.final_state, c->state_bytes, cudaMemcpyDeviceToHost));
    MUST_CUDA(cudaMemset(c->args.out, POISON, c->out_bytes));
    MUST_FKDA(fkda_fwd(&c->desc, &c->args, c->workspace, c->workspace_bytes, NULL));
    MUST_CUDA(cudaMemcpy(plain, c->args.out, c->out_bytes, cudaMemcpyDeviceToHost));
    MUST_CUDA(cudaMemcpy(plain + c->out_bytes, c->args.final_state, c->state_bytes, cudaMemcpyDeviceToHost));
    return memcmp(replayed, plain, c->out_bytes + c->state_bytes) == 0;
}

static void be_strided(public_call *c)
{
    fkda_tensor_desc *const tensors[] = {&c->desc.q, &c->desc.k, &c->desc.v, &c->desc.g, &c->desc.out};
    for (int i = 0; i < 5; ++i) tensors[i]->token_stride = c->desc.H * 128 - 4;
    c->desc.H -= 1;
    MUST_FKDA(fkda_fwd_workspace_size(&c->desc, &c->workspace_bytes));
    MUST_CUDA(cudaFree(c->workspace));
    MUST_CUDA(cudaMalloc(&c->workspace, c->workspace_bytes));
}

int main(int argc, char **argv)
{
    const int64_t H = argc > 1 ? strtol(argv[1], NULL, 10) : 4, N = argc > 2 ? strtol(argv[2], NULL, 10) : 8;
    if (skip_without_gpu("first_capture") != 0) return 77;
    MUST_FKDA(fkda_init());
    public_call c = make_public_call(N, N * 40, H);
    if (argc > 3 && strcmp(argv[3], "strided") == 0) be_strided(&c);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    MUST_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    MUST_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    MUST_FKDA(fkda_fwd(&c.desc, &c.args, c.workspace, c.workspace_bytes, stream));    /* the first of this process */
    MUST_CUDA(cudaStreamEndCapture(stream, &graph));
    MUST_CUDA(cudaGraphInstantiate(&replay, graph, 0));

    char *const replayed = malloc(c.out_bytes + c.state_bytes), *const plain = malloc(c.out_bytes + c.state_bytes);
    if (replayed == NULL || plain == NULL) return 2;
    int ran = 0, failed = 0;
    for (int i = 0; i < REPLAYS; ++i) {
        const int is_checked = i % (REPLAYS / CHECKED) == 0;
        if (is_checked) {
            for (int input = 0; input < 5; ++input) fill_input(&c, input, (uint32_t)i + 2);
            set_bounds(&c, i / (REPLAYS / CHECKED) % 2);
            MUST_CUDA(cudaMemset(c.args.out, POISON, c.out_bytes));
            MUST_CUDA(cudaDeviceSynchronize());
        }
        MUST_CUDA(cudaGraphLaunch(replay, stream));
        if (!is_checked) continue;
        MUST_CUDA(cudaStreamSynchronize(stream));
        ran += 1, failed += !same_as_plain(&c, replayed, plain);
    }
    MUST_CUDA(cudaStreamSynchronize(stream));
    printf("first_capture: ran %d, failed %d (%d replays, H = %d, N = %d)\n", ran, failed, REPLAYS, (int)H, (int)N);
    return failed != 0;
}
