// rustc -O 40_rust.rs -L $(pkg-config --variable=libdir flashkda) -l flashkda -o from_rust && ./from_rust
//
// From Rust, through the C ABI alone: a sequence at once, then in two halves with the state handed over. The structs are those of flashkda.h,
// field by field; struct_size lets the library refuse a copy that is not. Needs no crate; for all of the header there is bindgen.
#![allow(non_snake_case)]

use std::alloc::{alloc, dealloc, Layout};
use std::ffi::{c_void, CStr};
use std::mem::{size_of, zeroed};
use std::os::raw::c_char;
use std::ptr::null_mut;

const FKDA_OK: i32 = 0;
const FKDA_F32: i32 = 2;
const FKDA_WORKSPACE_ALIGN: usize = 256;

#[repr(C)]
#[derive(Clone, Copy)]
struct TensorDesc {
    batch_stride: i64, // 0: as if contiguous
    token_stride: i64,
    head_stride: i64,
    dtype: i32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct StateDesc {
    dtype: i32, // 0: absent
    layout: i32,
    row_stride: i64,
    slot_count: i64,
    slot_dtype: i32,
    slot_null: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct FwdDesc {
    struct_size: usize,
    backend: i32,
    memory: i32,
    device: i32,
    threads: i32,
    flags: u32,
    reserved: u32,
    B: i64,
    T: i64,
    N: i64,
    H: i64,
    HV: i64,
    K: i64,
    V: i64,
    q: TensorDesc,
    k: TensorDesc,
    v: TensorDesc,
    g: TensorDesc,
    beta: TensorDesc,
    out: TensorDesc,
    cu_seqlens: i32,
    A_log: i32,
    dt_bias: i32,
    gate: i32,
    lower_bound: f32,
    beta_kind: i32,
    beta_multiplier: i32,
    qk_norm: i32,
    scale: f32,
    initial_state: StateDesc,
    final_state: StateDesc,
    checkpoints: StateDesc,
    checkpoint_every: i64,
    checkpoint_count: i64,
    checkpoints_per_sequence: i64,
    checkpoint_offset_dtype: i32,
    unaligned: u32,
}

#[repr(C)]
struct FwdArgs {
    struct_size: usize,
    q: *const f32,
    k: *const f32,
    v: *const f32,
    g: *const f32,
    beta: *const f32,
    out: *mut f32,
    A_log: *const f32,
    dt_bias: *const f32,
    cu_seqlens: *const i64,
    cu_seqlens_host: *const i64,
    initial_state: *const f32,
    final_state: *mut f32,
    initial_slots: *const i64,
    final_slots: *const i64,
    initial_mask: *const u8,
    checkpoint_state: *mut f32,
    checkpoint_offsets: *const i64,
    checkpoint_slots: *const i64,
    device_status: *mut u32,
}

extern "C" {
    fn fkda_fwd_workspace_size(desc: *const FwdDesc, bytes: *mut usize) -> i32;
    fn fkda_fwd(desc: *const FwdDesc, args: *const FwdArgs, workspace: *mut c_void, bytes: usize, stream: *mut c_void) -> i32;
    fn fkda_status_name(status: i32) -> *const c_char;
    fn fkda_last_error() -> *const c_char;
}

fn check(status: i32) -> Result<(), String> {
    if status == FKDA_OK {
        return Ok(());
    }
    let text = |words| unsafe { CStr::from_ptr(words) }.to_string_lossy();
    Err(unsafe { format!("{}: {}", text(fkda_status_name(status)), text(fkda_last_error())) })
}

const H: usize = 2;
const K: usize = 64;
const V: usize = 64;

/// [1,T,H,width]; beta [1,T,H]
struct Tokens {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    g: Vec<f32>,
    beta: Vec<f32>,
}

/// Tokens [from, to): writes out [1,T,H,V] there, and takes the state [1,H,V,K] on.
fn forward(tokens: &Tokens, from: usize, to: usize, out: &mut [f32], state: &mut [f32]) -> Result<(), String> {
    let mut desc: FwdDesc = unsafe { zeroed() }; // zero means default
    desc.struct_size = size_of::<FwdDesc>();
    desc.B = 1;
    desc.T = (to - from) as i64;
    desc.H = H as i64;
    desc.K = K as i64;
    desc.V = V as i64;
    for tensor in [&mut desc.q, &mut desc.k, &mut desc.v, &mut desc.g, &mut desc.beta, &mut desc.out] {
        tensor.dtype = FKDA_F32;
    }
    desc.initial_state.dtype = FKDA_F32;
    desc.final_state.dtype = FKDA_F32;
    desc.lower_bound = -5.0;
    desc.scale = 0.125;

    let mut args: FwdArgs = unsafe { zeroed() };
    args.struct_size = size_of::<FwdArgs>();
    args.q = tokens.q[from * H * K..to * H * K].as_ptr(); // a slice, so that Rust checks the bounds
    args.k = tokens.k[from * H * K..to * H * K].as_ptr();
    args.v = tokens.v[from * H * V..to * H * V].as_ptr();
    args.g = tokens.g[from * H * K..to * H * K].as_ptr();
    args.beta = tokens.beta[from * H..to * H].as_ptr();
    args.out = out[from * H * V..to * H * V].as_mut_ptr();
    args.final_state = state[..H * V * K].as_mut_ptr();
    args.initial_state = args.final_state; // in place

    let mut bytes = 0;
    check(unsafe { fkda_fwd_workspace_size(&desc, &mut bytes) })?;
    let layout = Layout::from_size_align(bytes, FKDA_WORKSPACE_ALIGN).map_err(|error| error.to_string())?;
    let workspace = if bytes == 0 { null_mut() } else { unsafe { alloc(layout) } };
    let status = unsafe { fkda_fwd(&desc, &args, workspace.cast(), bytes, null_mut()) };
    if !workspace.is_null() {
        unsafe { dealloc(workspace, layout) };
    }
    check(status)
}

/// Numbers in [-1, 1).
fn random(count: usize, mut seed: u32) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        (seed >> 8) as f32 / 8388608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn worst_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).fold(0.0, |worst, (x, y)| (x - y).abs().max(worst))
}

fn main() -> Result<(), String> {
    const T: usize = 100;
    let tokens = Tokens {
        q: random(T * H * K, 1),
        k: random(T * H * K, 2),
        v: random(T * H * V, 3),
        g: random(T * H * K, 4),
        beta: random(T * H, 5),
    };

    let (mut whole, mut whole_state) = (vec![f32::NAN; T * H * V], vec![0.0; H * V * K]);
    forward(&tokens, 0, T, &mut whole, &mut whole_state)?;
    let (mut halves, mut state) = (vec![f32::NAN; T * H * V], vec![0.0; H * V * K]);
    forward(&tokens, 0, T / 2, &mut halves, &mut state)?;
    forward(&tokens, T / 2, T, &mut halves, &mut state)?;

    let (out, state) = (worst_difference(&whole, &halves), worst_difference(&whole_state, &state));
    println!("{} tokens at once and in two halves: out differs by {}, the state by {}; out[0] = {}", T, out, state, whole[0]);
    if out < 1e-5 && state < 1e-5 && whole.iter().chain(&halves).all(|x| x.is_finite()) && whole[0] != 0.0 {
        Ok(())
    } else {
        Err("they should not differ".into())
    }
}
