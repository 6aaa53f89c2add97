//! What a disk needs besides: folders that last, no links, and a look at what is unfinished.
//!
//! The client library follows links below the root wherever they lead, and hides the files
//! that it has not finished; neither will do here.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::objects::ListedObject;
use crate::snapshot::Timestamp;

/// Makes the folder if it is missing, so that it outlasts a power cut, and writes a file in
/// it to see that it can.
pub(super) fn prepare(root: &Path) -> io::Result<()> {
    let existing = root.ancestors().find(|folder| folder.exists());
    fs::create_dir_all(root)?;
    // A new folder is in the list of the folder above, so that one goes to the disk too.
    let mut folder = root;
    while let Some(above) = folder.parent().filter(|_| Some(folder) != existing) {
        File::open(above)?.sync_all()?;
        folder = above;
    }
    let probe = root.join(format!(".strandline-write-check-{}", std::process::id()));
    File::create(&probe)?;
    match fs::remove_file(&probe) {
        // Another replica with this process id was faster.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// How many bytes of the disk are free to us.
pub(super) fn free_bytes(root: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(root).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether something on the way from `root` to `name` is a symbolic link.
pub(super) fn has_link(root: &Path, name: &str) -> bool {
    let mut path = root.to_path_buf();
    for part in name.split('/') {
        path.push(part);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() => return true,
            Ok(_) => {}
            // What is below it is not there either.
            Err(_) => return false,
        }
    }
    false
}

/// Brings to the disk that the folders on the way from `root` to `name` are there. Who made
/// one of them has done so for itself, but perhaps not yet when we found it and went on.
pub(super) fn sync_folders(root: &Path, name: &str) -> io::Result<()> {
    let path = root.join(name);
    let folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    for folder in folders {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Removes a file, and the folders above it that are empty then. One that is gone already
/// is no error.
pub(super) fn remove(root: &Path, name: &str) -> io::Result<()> {
    let path = root.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed?,
    }
    let below_root = |folder: &&Path| *folder != root && folder.starts_with(root);
    for folder in path.ancestors().skip(1).take_while(below_root) {
        // Not empty, or another worker has put a file there in this moment.
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

/// Shows every file below the folder `prefix` to `visit`, unfinished ones included, until it
/// says that this is enough. Links are left out.
pub(super) fn walk(
    root: &Path,
    prefix: &str,
    visit: &mut impl FnMut(ListedObject) -> bool,
) -> io::Result<()> {
    let mut folders: Vec<PathBuf> = vec![root.join(prefix)];
    while let Some(folder) = folders.pop() {
        let Some(entries) = if_there(fs::read_dir(&folder))? else { continue };
        for entry in entries {
            let Some(entry) = if_there(entry)? else { continue };
            let Some(metadata) = if_there(entry.metadata())? else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
                continue;
            }
            // Names that are no text are not ours.
            let path = entry.path();
            let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) else { continue };
            if metadata.is_file() && !visit(listed(name, &metadata)?) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn listed(name: &str, metadata: &fs::Metadata) -> io::Result<ListedObject> {
    let age = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Ok(ListedObject {
        name: name.to_owned(),
        bytes: metadata.len(),
        modified_at: Timestamp::from_millis(millis),
    })
}

/// `None` for what is no folder, or was removed between two looks.
fn if_there<T>(looked: io::Result<T>) -> io::Result<Option<T>> {
    match looked {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
