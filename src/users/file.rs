//! Changes to a users file. A change is whole or not at all: a temporary file beside it is
//! written, synced and renamed over it, while a lock on the folder keeps other changers out.
//! Comments in the file do not survive a change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use storage_core::Extension;

use super::{PasswordHash, User, UserRole, Users, UsersError, UsersFile, clipped};

/// Adds a user; the file is made if there is none. Blocking and slow (it hashes the password).
///
/// # Errors
/// `Duplicate` if the name is taken; `BadName`, `BadExtension`, `BadTeam`, `BadPassword` for what
/// cannot be; `Read`, `Syntax`, `Write` for the file.
pub fn add(
    file: &Path,
    name: &str,
    role: UserRole,
    extension: Option<&str>,
    team: Option<&str>,
    password: &str,
) -> Result<(), UsersError> {
    let user = User {
        name: name.to_owned(),
        role,
        password: PasswordHash::new(password)?,
        extension: extension.map(Extension::from),
        team: team.map(str::to_owned),
    };
    change(file, |users| users.push(user))
}

/// Removes a user.
///
/// # Errors
/// `NoSuchUser` if there is none of this name; `Read`, `Syntax`, `Write` for the file.
pub fn remove(file: &Path, name: &str) -> Result<(), UsersError> {
    change(file, |users| {
        let before = users.users.len();
        users.users.retain(|user| user.name != name);
        if users.users.len() == before {
            return Err(UsersError::NoSuchUser(clipped(name)));
        }
        Ok(())
    })
}

/// All users, in the file's order.
///
/// # Errors
/// As [`Users::load`].
pub fn list(file: &Path) -> Result<Vec<User>, UsersError> {
    Ok(Users::load(file)?.users)
}

fn change(
    file: &Path,
    edit: impl FnOnce(&mut Users) -> Result<(), UsersError>,
) -> Result<(), UsersError> {
    let write_error = |source| UsersError::Write { path: file.to_owned(), source };
    let folder = folder_of(file);
    let lock = File::open(&folder).map_err(write_error)?;
    lock.lock().map_err(write_error)?;
    let mut users = match Users::load(file) {
        Err(UsersError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Users::default()
        }
        loaded => loaded?,
    };
    edit(&mut users)?;
    let text = toml::to_string(&UsersFile { user: users.users, team: users.teams })
        .map_err(|error| write_error(io::Error::other(error)))?;
    replace(file, &folder, &text).map_err(write_error)?;
    lock.sync_all().map_err(write_error)
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn replace(file: &Path, folder: &Path, text: &str) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let temporary = folder.join(format!(".{name}.new"));
    let written =
        write_private(&temporary, file, folder, text).and_then(|()| fs::rename(&temporary, file));
    if written.is_err() {
        // The error is what counts; a leftover is overwritten by the next change.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_private(temporary: &Path, file: &Path, folder: &Path, text: &str) -> io::Result<()> {
    // A leftover of a change that was killed, perhaps with other rights.
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    out.set_permissions(fs::Permissions::from_mode(0o600))?;
    // The daemon, which is not root, must still be able to read what root has changed.
    let owner = fs::metadata(file).or_else(|_| fs::metadata(folder))?;
    let ours = out.metadata()?;
    if (ours.uid(), ours.gid()) != (owner.uid(), owner.gid()) && nix::unistd::geteuid().is_root() {
        fchown(&out, Some(owner.uid()), Some(owner.gid()))?;
        // Root's, in a folder of the daemon's group: that is how the package lays out /etc/astlogger.
        if owner.uid() == 0 {
            out.set_permissions(fs::Permissions::from_mode(0o640))?;
        }
    }
    out.write_all(text.as_bytes())?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(file: &Path) -> Vec<String> {
        list(file).unwrap().into_iter().map(|user| user.name).collect()
    }

    #[test]
    fn users_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        add(&file, "anna", UserRole::Agent, Some("2611"), Some("billing"), "secret").unwrap();
        add(&file, "quentin", UserRole::Qa, None, None, "secret").unwrap();
        assert_eq!(names(&file), ["anna", "quentin"]);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(
            add(&file, "anna", UserRole::Qa, None, None, "other"),
            Err(UsersError::Duplicate(_))
        ));

        let users = Users::load(&file).unwrap();
        assert_eq!(users.verify("anna", "secret").unwrap().role, UserRole::Agent);
        assert!(users.verify("anna", "other").is_none());
        assert!(users.verify("nobody", "secret").is_none());

        remove(&file, "anna").unwrap();
        assert_eq!(names(&file), ["quentin"]);
        assert!(matches!(remove(&file, "anna"), Err(UsersError::NoSuchUser(_))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn a_refused_change_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        fs::write(&file, "[[user]]\nname = 1").unwrap();
        assert!(matches!(
            add(&file, "anna", UserRole::Qa, None, None, "secret"),
            Err(UsersError::Syntax { .. })
        ));
        assert_eq!(fs::read_to_string(&file).unwrap(), "[[user]]\nname = 1");
        let nowhere = folder.path().join("none").join("users.toml");
        assert!(matches!(
            add(&nowhere, "anna", UserRole::Qa, None, None, "secret"),
            Err(UsersError::Write { .. })
        ));
    }

    #[test]
    fn changes_at_once_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users.toml");
        std::thread::scope(|scope| {
            for i in 0..4 {
                let file = &file;
                scope.spawn(move || {
                    add(file, &format!("user{i}"), UserRole::Qa, None, None, "secret").unwrap();
                });
            }
        });
        assert_eq!(names(&file).len(), 4);
    }
}
