//! Rows of numbers as text.

#![no_main]

use flows_experiments::data::amat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(array) = amat::parse(bytes) {
        assert_eq!(array.values.len() % array.width, 0);
        assert!(array.values.len() <= bytes.len());
    }
});
