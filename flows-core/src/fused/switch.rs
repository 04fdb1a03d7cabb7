//! Kernels on and off, and their memory.

use std::sync::atomic::{AtomicBool, Ordering};

static ENABLED: AtomicBool = AtomicBool::new(true);

/// Whether fused kernels are used where there is one. They are unless
/// [`set_fused_kernels`] switched them off.
pub fn fused_kernels_enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Switches the fused kernels of the whole process on or off, to compare them with the generic
/// path. The two agree to rounding, not to the last bit.
pub fn set_fused_kernels(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Gives the memory that the kernels keep for their next call, at most 256 MiB, back to the system.
pub fn release_memory() {
    #[cfg(feature = "kernels")]
    flows_kernels::release_memory();
}
