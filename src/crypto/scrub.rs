//! Takes what a cipher leaves behind off the dead part of the stack and out of the vector registers.
//!
//! Key expansion and ciphers in general spill round keys to their stack frames (those of our kernels lie on a stack of their own: `stack.rs`), and the last
//! round keys stay in the vector registers, from where a core dump or a context switch carries them off. Zeroizing the key itself does not
//! reach those copies. [`scrub`] does, for the calling thread: call it after keys were expanded (key expansion in
//! [`crate::crypto::xts`] does it itself), and on every core that used a key once that key is gone.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use super::stack;

/// More than any frame chain under key expansion or a kernel needs.
const DEAD_STACK_BYTES: usize = 32 << 10;

/// Overwrites 32 KiB of dead stack below the caller's frame, the stack of the cipher kernels, and all vector registers.
///
/// It clears what functions left that the *caller* called before; what is in the
/// caller's own frame stays.
pub fn scrub() {
    stack::wipe();
    scrub_stack();
    scrub_registers();
}

#[inline(never)]
fn scrub_stack() {
    let mut dead = MaybeUninit::<[u64; DEAD_STACK_BYTES / 8]>::uninit();
    dead.write([0; DEAD_STACK_BYTES / 8]);
    // The stores have to happen although nobody reads them.
    std::hint::black_box(&mut dead);
}

#[cfg(target_arch = "x86_64")]
fn scrub_registers() {
    if std::arch::is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has AVX-512F, which is all that the function needs.
        unsafe { scrub_zmm() };
    } else if std::arch::is_x86_feature_detected!("avx") {
        // SAFETY: the CPU has AVX, which is all that the function needs.
        unsafe { scrub_ymm() };
    } else {
        scrub_xmm();
    }
}

/// Names all the low vector registers as overwritten by an assembler block.
#[cfg(target_arch = "x86_64")]
macro_rules! asm_clobbering_xmm {
    ($($line:literal),+; $($more:tt)*) => {
        std::arch::asm!($($line),+,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            $($more)* options(nomem, nostack, preserves_flags))
    };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn scrub_zmm() {
    // SAFETY: writes only to vector registers, all of which are declared.
    unsafe {
        asm_clobbering_xmm!(
            "vzeroall",
            "vpxorq zmm16, zmm16, zmm16", "vpxorq zmm17, zmm17, zmm17",
            "vpxorq zmm18, zmm18, zmm18", "vpxorq zmm19, zmm19, zmm19",
            "vpxorq zmm20, zmm20, zmm20", "vpxorq zmm21, zmm21, zmm21",
            "vpxorq zmm22, zmm22, zmm22", "vpxorq zmm23, zmm23, zmm23",
            "vpxorq zmm24, zmm24, zmm24", "vpxorq zmm25, zmm25, zmm25",
            "vpxorq zmm26, zmm26, zmm26", "vpxorq zmm27, zmm27, zmm27",
            "vpxorq zmm28, zmm28, zmm28", "vpxorq zmm29, zmm29, zmm29",
            "vpxorq zmm30, zmm30, zmm30", "vpxorq zmm31, zmm31, zmm31";
            out("xmm16") _, out("xmm17") _, out("xmm18") _, out("xmm19") _,
            out("xmm20") _, out("xmm21") _, out("xmm22") _, out("xmm23") _,
            out("xmm24") _, out("xmm25") _, out("xmm26") _, out("xmm27") _,
            out("xmm28") _, out("xmm29") _, out("xmm30") _, out("xmm31") _,
        );
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn scrub_ymm() {
    // SAFETY: writes only to vector registers, all of which are declared.
    unsafe { asm_clobbering_xmm!("vzeroall";) }
}

#[cfg(target_arch = "x86_64")]
fn scrub_xmm() {
    // SAFETY: writes only to vector registers, all of which are declared.
    unsafe {
        asm_clobbering_xmm!(
            "pxor xmm0, xmm0", "pxor xmm1, xmm1", "pxor xmm2, xmm2", "pxor xmm3, xmm3",
            "pxor xmm4, xmm4", "pxor xmm5, xmm5", "pxor xmm6, xmm6", "pxor xmm7, xmm7",
            "pxor xmm8, xmm8", "pxor xmm9, xmm9", "pxor xmm10, xmm10", "pxor xmm11, xmm11",
            "pxor xmm12, xmm12", "pxor xmm13, xmm13", "pxor xmm14, xmm14", "pxor xmm15, xmm15";
        );
    }
}

#[cfg(target_arch = "aarch64")]
fn scrub_registers() {
    // SAFETY: writes only to vector registers, all of which are declared.
    unsafe {
        std::arch::asm!(
            "movi v0.2d, #0", "movi v1.2d, #0", "movi v2.2d, #0", "movi v3.2d, #0",
            "movi v4.2d, #0", "movi v5.2d, #0", "movi v6.2d, #0", "movi v7.2d, #0",
            "movi v16.2d, #0", "movi v17.2d, #0", "movi v18.2d, #0", "movi v19.2d, #0",
            "movi v20.2d, #0", "movi v21.2d, #0", "movi v22.2d, #0", "movi v23.2d, #0",
            "movi v24.2d, #0", "movi v25.2d, #0", "movi v26.2d, #0", "movi v27.2d, #0",
            "movi v28.2d, #0", "movi v29.2d, #0", "movi v30.2d, #0", "movi v31.2d, #0",
            "movi v8.2d, #0", "movi v9.2d, #0", "movi v10.2d, #0", "movi v11.2d, #0",
            "movi v12.2d, #0", "movi v13.2d, #0", "movi v14.2d, #0", "movi v15.2d, #0",
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _, out("v13") _, out("v14") _,
            out("v15") _, out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
            out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _,
            out("v29") _, out("v30") _, out("v31") _,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// Other processors: the compiler's own moves have to do.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn scrub_registers() {}
