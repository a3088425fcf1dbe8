"""A file system that hands everything on to a folder, and takes its time for syncs and writes.

sluggish.py FOLDER PLACE DELAYS: FOLDER is shown at PLACE. The file DELAYS has two numbers of seconds: each fsync, fdatasync
and sync of a folder takes the first, each write the second, or what is left of it once the file says less. Ends when
PLACE is unmounted.
"""
import errno
import os
import sys
import time

import fusepy as fuse


SYNC, WRITE = 0, 1


class Sluggish(fuse.Operations):
    def __init__(self, folder, delays):
        self.folder, self.delays = folder, delays

    def __call__(self, op, path, *args):
        return super().__call__(op, self.folder + path, *args)

    def dawdle(self, which):
        begun = time.monotonic()
        while time.monotonic() - begun < self.delay(which):
            time.sleep(0.01)

    def delay(self, which):
        with open(self.delays) as file:
            return float(file.read().split()[which])

    def getattr(self, path, fh=None):
        found = os.fstat(fh) if fh is not None else os.lstat(path)
        names = ("atime", "ctime", "gid", "mode", "mtime", "nlink", "size", "uid", "ino", "blocks")
        return {"st_" + name: getattr(found, "st_" + name) for name in names}

    def access(self, path, mode):
        if not os.access(path, mode):
            raise fuse.FuseOSError(errno.EACCES)

    def readdir(self, path, fh):
        return [".", ".."] + os.listdir(path)

    def statfs(self, path):
        found = os.statvfs(path)
        names = ("bavail", "bfree", "blocks", "bsize", "favail", "ffree", "files", "flag", "frsize", "namemax")
        return {"f_" + name: getattr(found, "f_" + name) for name in names}

    def open(self, path, flags):
        return os.open(path, flags)

    def create(self, path, mode, fi=None):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode)

    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    def write(self, path, data, offset, fh):
        self.dawdle(WRITE)
        return os.pwrite(fh, data, offset)

    def truncate(self, path, length, fh=None):
        os.truncate(fh if fh is not None else path, length)

    def release(self, path, fh):
        os.close(fh)

    def flush(self, path, fh):
        pass

    def fsync(self, path, datasync, fh):
        self.dawdle(SYNC)
        os.fdatasync(fh)

    def fsyncdir(self, path, datasync, fh):
        self.dawdle(SYNC)

    def rename(self, old, new):
        os.rename(old, self.folder + new)

    def unlink(self, path):
        os.unlink(path)

    def mkdir(self, path, mode):
        os.mkdir(path, mode)

    def rmdir(self, path):
        os.rmdir(path)

    def chmod(self, path, mode):
        os.chmod(path, mode)

    def utimens(self, path, times=None):
        os.utime(path, times)


folder, place, delays = sys.argv[1:]
# One write is one, and not one for each 4 KiB, of which each would take its time.
fuse.FUSE(Sluggish(folder, delays), place, foreground=True, use_ino=True, big_writes=True)
