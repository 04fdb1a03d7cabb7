//! The only file that knows which backends are compiled in.

use std::fmt;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::{Arc, Mutex, OnceLock};

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{FloatDType, IntDType, Tensor};
use serde::{Deserialize, Serialize};

/// A Burn backend that the command line can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// CPU, `burn-flex`: the default.
    Flex,
    /// CPU, `burn-ndarray`.
    NdArray,
    /// GPU through WGSL.
    Wgpu,
    /// GPU through Vulkan and SPIR-V.
    Vulkan,
    /// NVIDIA GPU.
    Cuda,
}

impl BackendKind {
    /// Every backend there is a feature for.
    pub const ALL: [Self; 5] = [
        Self::Flex,
        Self::NdArray,
        Self::Wgpu,
        Self::Vulkan,
        Self::Cuda,
    ];

    /// The name of the backend, of its feature, and of `--backend`'s value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Vulkan => "vulkan",
            Self::Cuda => "cuda",
        }
    }

    /// Whether this build holds it.
    pub fn is_compiled(self) -> bool {
        match self {
            Self::Flex => cfg!(feature = "flex"),
            Self::NdArray => cfg!(feature = "ndarray"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Cuda => cfg!(feature = "cuda"),
        }
    }

    /// Whether it runs on the CPU, where independent runs can share the cores.
    pub fn is_cpu(self) -> bool {
        matches!(self, Self::Flex | Self::NdArray)
    }

    /// Whether it can compute in `dtype` at all, whatever the device.
    ///
    /// Shaders have no f64: WGSL lacks the type, and the exponentials and logarithms of SPIR-V's
    /// instruction set GLSL.std.450 take 16 and 32 bits only, even on devices with f64 arithmetic.
    pub fn computes_in(self, dtype: Dtype) -> bool {
        dtype == Dtype::F32 || !matches!(self, Self::Wgpu | Self::Vulkan)
    }

    /// The first backend compiled in, if any.
    pub fn default_compiled() -> Option<Self> {
        Self::ALL.into_iter().find(|b| b.is_compiled())
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BackendKind {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Self, BackendError> {
        match Self::ALL.into_iter().find(|b| b.name() == name) {
            None => Err(BackendError::Unknown(name.to_owned())),
            Some(backend) if backend.is_compiled() => Ok(backend),
            Some(backend) => Err(BackendError::NotCompiled(backend)),
        }
    }
}

/// Floating-point type of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// 64 bits, where the backend has it.
    F64,
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// Why a backend could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// No backend of this name.
    #[error("unknown backend '{0}'; this build has {have}", have = compiled_names())]
    Unknown(String),
    /// A backend whose feature is off.
    #[error(
        "backend '{0}' is not in this build, which has {have}; build with `--features {0}` to add it",
        have = compiled_names()
    )]
    NotCompiled(BackendKind),
    /// A type the backend cannot compute with.
    #[error("backend '{backend}' has no {dtype}; the CPU backends have f32 and f64")]
    Dtype {
        /// The backend.
        backend: BackendKind,
        /// The type asked for.
        dtype: Dtype,
    },
    /// The device did not start, such as a GPU backend on a machine without an adapter.
    #[error("backend '{backend}' found no usable device: {reason}")]
    Device {
        /// The backend.
        backend: BackendKind,
        /// What its driver said, on one line.
        reason: String,
    },
}

fn compiled_names() -> String {
    let names = BackendKind::ALL
        .into_iter()
        .filter(|b| b.is_compiled())
        .map(BackendKind::name)
        .collect::<Vec<_>>();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

/// Work that runs on any backend.
pub trait Task {
    /// What it gives back.
    type Output;

    /// Does the work on `device`.
    fn run<B: AutodiffBackend>(self, device: B::Device) -> Self::Output;
}

/// The backends that work may run on. What is generic over them is compiled with the program that names them, and not
/// with this library, which all programs wait for.
pub trait Backends {
    /// As [`dispatch`].
    ///
    /// # Errors
    /// As [`dispatch`].
    fn dispatch<T: Task>(
        backend: BackendKind,
        dtype: Dtype,
        task: T,
    ) -> Result<T::Output, BackendError>;
}

/// The backends of this build.
#[derive(Debug)]
pub struct Compiled;

impl Backends for Compiled {
    fn dispatch<T: Task>(
        backend: BackendKind,
        dtype: Dtype,
        task: T,
    ) -> Result<T::Output, BackendError> {
        dispatch(backend, dtype, task)
    }
}

/// Runs `task` on the backend named, after fixing the default float type of its device.
///
/// The default type is process-wide and fixed on first use, so a process uses one backend and type.
///
/// # Errors
/// [`BackendError`] where the backend is not compiled in, finds no device or lacks the type.
pub fn dispatch<T: Task>(
    backend: BackendKind,
    dtype: Dtype,
    task: T,
) -> Result<T::Output, BackendError> {
    match backend {
        #[cfg(feature = "flex")]
        BackendKind::Flex => start::<burn::backend::Flex, T>(backend, dtype, task),
        #[cfg(feature = "ndarray")]
        BackendKind::NdArray => start::<burn::backend::NdArray, T>(backend, dtype, task),
        #[cfg(feature = "wgpu")]
        BackendKind::Wgpu => start::<burn::backend::Wgpu, T>(backend, dtype, task),
        #[cfg(feature = "vulkan")]
        BackendKind::Vulkan => start::<burn::backend::Vulkan, T>(backend, dtype, task),
        #[cfg(feature = "cuda")]
        BackendKind::Cuda => start::<burn::backend::Cuda, T>(backend, dtype, task),
        #[allow(unreachable_patterns)]
        other => {
            let _ = (dtype, task);
            Err(BackendError::NotCompiled(other))
        }
    }
}

/// Whether `backend` starts and computes in `dtype`: what [`dispatch`] finds out before its task.
///
/// # Errors
/// As [`dispatch`].
pub fn check(backend: BackendKind, dtype: Dtype) -> Result<(), BackendError> {
    struct Nothing;
    impl Task for Nothing {
        type Output = ();

        fn run<B: AutodiffBackend>(self, _device: B::Device) {}
    }
    dispatch(backend, dtype, Nothing)
}

#[allow(dead_code)] // a build without any backend still compiles
fn start<B: Backend, T: Task>(
    backend: BackendKind,
    dtype: Dtype,
    task: T,
) -> Result<T::Output, BackendError> {
    if !backend.computes_in(dtype) {
        return Err(BackendError::Dtype { backend, dtype });
    }
    let device = B::Device::default();
    // GPU backends panic where no adapter is found; that is a condition of the machine, not a bug.
    let probe = AssertUnwindSafe(|| {
        let float = match dtype {
            Dtype::F32 => FloatDType::F32,
            Dtype::F64 => FloatDType::F64,
        };
        // A second call in one process finds the type already set; the probe below tells which.
        let _ = burn::tensor::set_default_dtypes::<B>(&device, float, IntDType::I32);
        Tensor::<B, 1>::ones([1], &device).into_data().dtype
    });
    match quietly(probe) {
        Err(reason) => Err(BackendError::Device { backend, reason }),
        Ok(found) if found.name() != dtype.to_string() => {
            Err(BackendError::Dtype { backend, dtype })
        }
        Ok(_) => Ok(task.run::<burn::backend::Autodiff<B>>(device)),
    }
}

/// What `work` gives, or the first sentence of the first panic on its way, which nothing else prints.
///
/// A device starts on a thread of its own: the panic that says why it did not comes before the one
/// that ends `work`, which only says that the other thread gave no answer. After the first sentence
/// come the driver's structures and advice that does not apply here.
#[allow(dead_code)] // as above
fn quietly<T>(work: impl FnOnce() -> T + UnwindSafe) -> Result<T, String> {
    // The hook is the process's: another thread must not take this one's for the old one.
    static HOOK: Mutex<()> = Mutex::new(());
    let _alone = HOOK.lock().expect("nothing panics while it is held");
    let first = Arc::new(OnceLock::new());
    let hook = std::panic::take_hook();
    std::panic::set_hook({
        let first = first.clone();
        Box::new(move |panic| {
            let words = panic.payload_as_str().unwrap_or("it gave no reason");
            let _ = first.set(first_sentence(words).to_owned());
        })
    });
    let done = catch_unwind(work);
    std::panic::set_hook(hook);
    done.map_err(|_| {
        let reason = first.get().map_or("it gave no reason", String::as_str);
        reason.to_owned()
    })
}

#[allow(dead_code)] // as above
fn first_sentence(words: &str) -> &str {
    let line = words.lines().next().unwrap_or_default();
    line.split_once(". ").map_or(line, |(sentence, _)| sentence)
}

/// Sets the threads that tensor operations and kernels may use, once for the process. The calling
/// thread is one of them: work that it starts need not wait for another thread to wake up, which on a busy
/// machine takes longer than a small operation.
pub fn set_threads(threads: usize) {
    // A second call finds the pool built; the first one has set it.
    let _ = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .use_current_thread()
        .build_global();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_backend_is_answered_with_what_is_there() {
        let error = "tpu".parse::<BackendKind>().unwrap_err().to_string();
        assert!(error.starts_with("unknown backend 'tpu'; this build has "));
    }

    #[test]
    fn the_first_panic_is_the_reason() {
        let failed = quietly(|| {
            let device = std::thread::spawn(|| -> u8 { panic!("no adapter. Advice\nmore") });
            device.join().unwrap()
        });
        assert_eq!(failed, Err("no adapter".to_owned()));
        assert_eq!(quietly(|| 3), Ok(3));
    }

    #[test]
    fn shaders_have_no_f64() {
        let refused = |b: &BackendKind| !b.computes_in(Dtype::F64);
        let refused = BackendKind::ALL.into_iter().filter(refused);
        assert!(refused.eq([BackendKind::Wgpu, BackendKind::Vulkan]));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_left_out_names_its_feature() {
        let error = "cuda".parse::<BackendKind>().unwrap_err().to_string();
        assert!(error.contains("--features cuda"), "{error}");
    }
}
