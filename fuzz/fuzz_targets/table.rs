//! CSV, npy and npz, gzipped or not: what a file is, its first bytes say.

#![no_main]

use std::io::Cursor;

use flows_tables::{Reading, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let stream = Box::new(Cursor::new(bytes.to_vec()));
    let Ok(mut source) = Source::from_bytes(stream, "input", &Reading::default()) else {
        return;
    };
    let columns = source.layout().columns;
    while let Ok(chunk) = source.next_chunk(64) {
        assert_eq!(chunk.len() % columns, 0);
        assert!(chunk.iter().all(|value| value.is_finite()));
        if chunk.is_empty() {
            break;
        }
    }
});
