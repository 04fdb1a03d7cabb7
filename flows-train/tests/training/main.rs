//! The loop: what it finds, how it stops and goes on, and gradients in segments.

mod fit;
mod segments;
