//! The HDF5 file of BSDS300 as it is published.

use std::fs;

use flows_experiments::data::sets::SetId;
use flows_tables::Rows;

/// `BSDS300.hdf5` in the layout of the archive, written by h5py 3.16.0: `train` (4 rows),
/// `validation` (2) and `test` (3) of 63 columns, each value `100 * part + row + column / 64`.
const FILE: &[u8] = include_bytes!("../data/bsds300-layout.hdf5");

fn archive(bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("BSDS300");
    fs::create_dir(&set).unwrap();
    fs::write(set.join("BSDS300.hdf5"), bytes).unwrap();
    folder
}

#[test]
fn the_file_of_the_archive_is_read_and_a_damaged_one_refused() {
    let folder = archive(FILE);
    let set = SetId::Bsds.load(folder.path()).unwrap();
    let parts = [&set.train, &set.validation, &set.test];
    assert_eq!((parts.map(Rows::len), set.columns.len()), ([4, 2, 3], 63));
    for (part, rows) in parts.into_iter().enumerate() {
        for (i, row) in rows.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                assert_eq!(*value, (100 * part + i) as f64 + j as f64 / 64.0);
            }
        }
    }
    assert_eq!(set.status, "BSDS300/BSDS300.hdf5, 4 training rows");
    for cut in [0, 7, 100, FILE.len() / 2, FILE.len() - 600] {
        let folder = archive(&FILE[..cut]);
        let error = SetId::Bsds.load(folder.path()).unwrap_err().to_string();
        let one_line = error.contains("BSDS300.hdf5") && !error.contains('\n');
        assert!(one_line, "{error}");
    }
}
