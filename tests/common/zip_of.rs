//! What Python's own `zipfile` and `csv`, which share nothing with this program, find in an export.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const SCRIPT: &str = r"
import csv, hashlib, io, json, sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
table = lambda name: list(csv.DictReader(io.StringIO(z.read(name).decode('utf-8'), newline=''), strict=True))
told = {
    'bad': z.testzip(),
    'names': z.namelist(),
    'sha256': {i.filename: hashlib.sha256(z.read(i)).hexdigest() for i in z.infolist()},
    'recordings': table('recordings.csv'),
    'missing': table('missing.csv'),
    'records': [json.loads(z.read(n)) for n in z.namelist() if n.startswith('records/')][:100],
}
json.dump(told, sys.stdout)
";

/// Everything about the ZIP file at a path.
pub fn read(path: &Path) -> Value {
    let told = Command::new("python3").args(["-c", SCRIPT]).arg(path).output().expect("python3");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).expect("JSON")
}
