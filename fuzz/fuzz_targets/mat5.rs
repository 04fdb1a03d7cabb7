//! Arrays of MAT files.

#![no_main]

use flows_experiments::data::mat5;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(arrays) = mat5::parse(bytes, &["data", "testdata"]) {
        for array in arrays.values() {
            assert_eq!(array.values.len(), array.shape.iter().product::<usize>());
        }
    }
});
