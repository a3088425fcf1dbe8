//! Whether what is recorded can be kept: the data directory, its file system, its free room; and
//! whether anybody could fetch it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::Finding;
use crate::config::Config;
use crate::users::Users;

const DIRECTORY: &str = "data directory";
const ROOM: &str = "free room";
/// A disk that needs longer to make a small file durable will not keep up with many calls.
const SYNC_SLOW: Duration = Duration::from_millis(100);
/// File systems that forget everything when the power goes.
const VOLATILE: &[&str] = &["tmpfs", "ramfs"];
/// File systems whose server may be away while calls go on.
const REMOTE: &[&str] = &["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph"];

/// Whether files can be made in the data directory, and on what kind of file system.
pub(super) fn data_directory(config: &Config) -> Finding {
    let dir = &config.datadir;
    let (existing, made) = match nearest_existing(dir) {
        Some(existing) => (existing.to_owned(), existing == dir),
        None => (PathBuf::from("/"), false),
    };
    let place = dir.display();
    if !existing.is_dir() {
        let found = format!("{} is no directory", existing.display());
        let remedy = "name a directory, or move away what lies there";
        return Finding::fail(DIRECTORY, found, remedy).of("al_datadir");
    }
    let took = match try_to_write(&existing) {
        Ok(took) => took,
        Err(error) => {
            let found = format!("{} cannot be written: {error}", existing.display());
            let remedy = "make it, and give it to the user that runs the node";
            return Finding::fail(DIRECTORY, found, remedy).of("al_datadir");
        }
    };
    let kind = filesystem_kind(&existing).unwrap_or_else(|| "unknown file system".to_owned());
    let state = if made { "writable" } else { "will be made" };
    let found = format!("{place} on {kind}, {state}, durable in {} ms", took.as_millis());
    if VOLATILE.contains(&kind.as_str()) {
        let remedy = "choose a directory on a disk: this one is empty after a power cut";
        return Finding::warn(DIRECTORY, found, remedy).of("al_datadir");
    }
    if REMOTE.contains(&kind.as_str()) {
        let remedy = "choose a local disk: recording must not wait for another machine";
        return Finding::warn(DIRECTORY, found, remedy).of("al_datadir");
    }
    if took > SYNC_SLOW {
        return Finding::warn(DIRECTORY, found, "choose a faster disk").of("al_datadir");
    }
    Finding::ok(DIRECTORY, found)
}

/// How much room there is, against `al_mindiskfree`.
pub(super) fn free_room(config: &Config) -> Finding {
    let existing = nearest_existing(&config.datadir).unwrap_or(Path::new("/"));
    let room = match statvfs(existing) {
        Ok(room) => room,
        Err(error) => {
            let found = format!("cannot be told: {error}");
            return Finding::warn(ROOM, found, "look with `df`").of("al_datadir");
        }
    };
    let unit = room.fragment_size();
    let (free, total) = (room.blocks_available() * unit, room.blocks() * unit);
    let wanted = config.storage.mindiskfree.bytes_of(total);
    let found = format!("{} of {} free", gib(free), gib(total));
    if free < wanted {
        let found = format!("{found}, less than the {} that should be", gib(wanted));
        return Finding::fail(ROOM, found, "make room, or choose a larger disk")
            .of("al_mindiskfree");
    }
    Finding::ok(ROOM, found)
}

/// Whether anybody could sign in.
pub(super) fn users_file(config: &Config) -> Finding {
    const CHECK: &str = "users";
    let file = &config.web.usersfile;
    match File::open(file).map(|_| Users::load(file)) {
        Ok(Err(error)) => {
            let remedy = "mend the file; nobody can sign in until then";
            Finding::warn(CHECK, error.to_string(), remedy).of("al_usersfile")
        }
        Ok(Ok(users)) => match users.teamless().next() {
            None => Finding::ok(CHECK, format!("{} is readable", file.display())),
            Some(user) => {
                let team = user.team.as_deref().unwrap_or_default();
                let found = format!(
                    "user `{}` is of team `{team}`, which there is not: he sees nothing",
                    user.name
                );
                let remedy = "give the users file a [[team]] with this `name` and its `extensions`";
                Finding::warn(CHECK, found, remedy).of("al_usersfile")
            }
        },
        Err(error) => {
            let found = format!("{}: {error}; nobody can sign in", file.display());
            let remedy =
                format!("astlogger user add --file {} --name NAME --role ROLE", file.display());
            Finding::warn(CHECK, found, remedy).of("al_usersfile")
        }
    }
}

fn gib(bytes: u64) -> String {
    let tenths = bytes / (1024 * 1024 * 1024 / 10);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn nearest_existing(path: &Path) -> Option<&Path> {
    path.ancestors().find(|ancestor| ancestor.exists())
}

/// Makes a file durable and removes it; says how long that took.
fn try_to_write(dir: &Path) -> io::Result<Duration> {
    let probe = dir.join(format!(".astlogger-check-{}", std::process::id()));
    let begun = Instant::now();
    let written = File::create_new(&probe).and_then(|mut file| {
        file.write_all(&[0; 4096])?;
        file.sync_all()
    });
    let took = begun.elapsed();
    let removed = fs::remove_file(&probe);
    written.and(removed).map(|()| took)
}

/// Type of the file system that holds `path`, by the kernel's list of mounts: the last of the
/// longest mount points that `path` lies below.
fn filesystem_kind(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    kind_in(&fs::read_to_string("/proc/self/mounts").ok()?, &path)
}

fn kind_in(mounts: &str, path: &Path) -> Option<String> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            // The kernel writes a space within a name as \040.
            let point = fields.nth(1)?.replace("\\040", " ");
            path.starts_with(&point).then(|| (point.len(), fields.next().unwrap_or_default()))
        })
        .max_by_key(|(length, _)| *length)
        .map(|(_, kind)| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_and_last_mount_names_the_file_system() {
        let mounts = "overlay / overlay rw 0 0\ntmpfs /var tmpfs rw 0 0\n\
                      /dev/sdb /var/lib\\040x ext4 rw 0 0\n/dev/sdc /var xfs rw 0 0\n";
        for (path, kind) in [
            ("/etc", "overlay"),
            ("/var/lib", "xfs"),
            ("/var/lib x/astlogger", "ext4"),
            ("/variable", "overlay"),
        ] {
            assert_eq!(kind_in(mounts, Path::new(path)).as_deref(), Some(kind), "{path}");
        }
        assert_eq!(kind_in("", Path::new("/")), None);
    }

    #[test]
    fn a_directory_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert!(try_to_write(dir.path()).is_ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(try_to_write(&dir.path().join("none")).is_err());
        assert_eq!(nearest_existing(&dir.path().join("a/b")), Some(dir.path()));
    }

    #[test]
    fn sizes_are_read_by_people() {
        assert_eq!(gib(0), "0.0 GiB");
        assert_eq!(gib((3 << 30) + (1 << 29)), "3.5 GiB");
    }
}
