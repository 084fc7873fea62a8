// go build -o from_go 50_go.go && ./from_go
//
// From Go, by cgo: a sequence at once, then in two halves with the state handed over. cgo reads flashkda.h itself, where pkg-config finds it.
// Structs that hold pointers may not point into Go's memory, so what the library reads and writes lies in C's.
package main

// #cgo pkg-config: flashkda
// #include <flashkda.h>
// #include <stdlib.h>
import "C"

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"unsafe"
)

const (
	T, H, K, V = 100, 2, 64, 64
	stateCount = H * V * K
)

// A tensor in C's memory, and the same as a slice.
type tensor struct {
	at   unsafe.Pointer
	data []float32
}

func newTensor(count int) tensor {
	at := C.calloc(C.size_t(count), 4)
	return tensor{at, unsafe.Slice((*float32)(at), count)}
}

// The address of element `index`; a slice's, so that Go checks the bounds.
func (x tensor) from(index int) unsafe.Pointer {
	return unsafe.Pointer(&x.data[index])
}

// Numbers in [-1, 1).
func random(count int, seed uint32) tensor {
	x := newTensor(count)
	for i := range x.data {
		seed = seed*1664525 + 1013904223
		x.data[i] = float32(seed>>8)/8388608 - 1
	}
	return x
}

// q, k, v, g [1,T,H,width], beta [1,T,H]
var q, k, v, g, beta = random(T*H*K, 1), random(T*H*K, 2), random(T*H*V, 3), random(T*H*K, 4), random(T*H, 5)

// Tokens [from, to): writes out [1,T,H,V] there, and takes the state [1,H,V,K] on.
func forward(from, to int, out, state tensor) error {
	runtime.LockOSThread() // the sentence of an error belongs to the thread
	defer runtime.UnlockOSThread()

	var desc C.fkda_fwd_desc // zero means default
	desc.struct_size = C.sizeof_fkda_fwd_desc
	desc.B, desc.T, desc.H, desc.K, desc.V = 1, C.int64_t(to-from), H, K, V
	for _, x := range []*C.fkda_tensor_desc{&desc.q, &desc.k, &desc.v, &desc.g, &desc.beta, &desc.out} {
		x.dtype = C.FKDA_F32
	}
	desc.initial_state.dtype, desc.final_state.dtype = C.FKDA_F32, C.FKDA_F32
	desc.lower_bound = -5
	desc.scale = 0.125

	var args C.fkda_fwd_args
	args.struct_size = C.sizeof_fkda_fwd_args
	args.q, args.k, args.v, args.g = q.from(from*H*K), k.from(from*H*K), v.from(from*H*V), g.from(from*H*K)
	args.beta, args.out = beta.from(from*H), out.from(from*H*V)
	args.initial_state, args.final_state = state.at, state.at // in place

	var bytes C.size_t
	if status := C.fkda_fwd_workspace_size(&desc, &bytes); status != C.FKDA_OK {
		return failure(status)
	}
	workspace := C.aligned_alloc(C.FKDA_WORKSPACE_ALIGN, bytes)
	defer C.free(workspace)
	if status := C.fkda_fwd(&desc, &args, workspace, bytes, nil); status != C.FKDA_OK {
		return failure(status)
	}
	return nil
}

func failure(status C.fkda_status) error {
	return fmt.Errorf("%s: %s", C.GoString(C.fkda_status_name(status)), C.GoString(C.fkda_last_error()))
}

func worstDifference(a, b tensor) float64 {
	worst := 0.0
	for i := range a.data {
		worst = math.Max(worst, math.Abs(float64(a.data[i]-b.data[i]))) // a NaN remains
	}
	return worst
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	whole, wholeState := newTensor(T*H*V), newTensor(stateCount)
	must(forward(0, T, whole, wholeState))
	halves, state := newTensor(T*H*V), newTensor(stateCount)
	must(forward(0, T/2, halves, state))
	must(forward(T/2, T, halves, state))

	out, ofState := worstDifference(whole, halves), worstDifference(wholeState, state)
	fmt.Printf("%d tokens at once and in two halves: out differs by %g, the state by %g; out[0] = %g\n", T, out, ofState, whole.data[0])
	if !(out < 1e-5 && ofState < 1e-5) || whole.data[0] == 0 {
		must(fmt.Errorf("they should not differ"))
	}
}
