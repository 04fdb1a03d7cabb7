//! Arrays of bytes, MNIST's format.

#![no_main]

use flows_experiments::data::idx;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(array) = idx::parse(bytes) {
        assert_eq!(array.bytes.len(), array.shape.iter().product::<usize>());
        assert!(array.bytes.len() <= bytes.len());
    }
});
