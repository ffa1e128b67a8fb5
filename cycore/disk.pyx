"""Many files written and synced by one call, without the GIL.

A server that keeps a thousand documents would spend its time on handing the GIL from thread to thread if each
were stored by Python. And one sync after another takes the disk's latency each time, while those that it is
asked for at one time it does together.
"""

from libc.errno cimport EINTR, EIO, errno
from libc.stdlib cimport calloc, free

cdef extern from *:
    """
    #include <fcntl.h>
    #include <pthread.h>
    #include <unistd.h>

    static int sync_file(int fd) {
    #ifdef F_FULLFSYNC  /* Darwin, where fsync leaves data in the drive's cache */
        return fcntl(fd, F_FULLFSYNC) == -1 ? -1 : 0;
    #else
        return fsync(fd);
    #endif
    }
    """
    ctypedef long off_t
    ctypedef struct pthread_t:
        pass
    int sync_file(int fd) nogil
    Py_ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) nogil
    int pthread_create(pthread_t* thread, void* attributes, void* (*work)(void*) noexcept nogil, void* given) nogil
    int pthread_join(pthread_t thread, void** result) nogil

cdef enum:
    THREADS = 16  # at most: so many syncs does the disk get at a time


cdef struct Piece:
    int fd
    int error  # an errno, 0 if all is well
    off_t offset
    const char* data
    Py_ssize_t size


cdef struct Share:
    Piece* pieces
    Py_ssize_t first  # and every `step`th after it
    Py_ssize_t step
    Py_ssize_t count
    pthread_t thread
    bint started


cdef int write_piece(Piece* piece) noexcept nogil:
    """Write all of it; returns an errno."""
    cdef const char* data = piece.data
    cdef Py_ssize_t left = piece.size, done
    cdef off_t offset = piece.offset
    while left:
        done = pwrite(piece.fd, data, left, offset)
        if done < 0:
            if errno == EINTR:
                continue
            return errno
        if done == 0:
            return EIO
        data += done
        offset += done
        left -= done
    return 0


cdef void* store_share(void* given) noexcept nogil:
    """Write the pieces of one share, then have them stored: the disk may write one while it gets another."""
    cdef Share* share = <Share*>given
    cdef Piece* piece
    cdef Py_ssize_t i
    i = share.first
    while i < share.count:
        piece = &share.pieces[i]
        piece.error = write_piece(piece)
        i += share.step
    i = share.first
    while i < share.count:
        piece = &share.pieces[i]
        while piece.error == 0 and sync_file(piece.fd):
            if errno != EINTR:
                piece.error = errno
        i += share.step
    return NULL


def store_all(pieces):
    """Write pieces `(fd, offset, data)`, each to another file, and return when all files are stored.

    Returns an errno for each, 0 where all is well. One that fails leaves the others alone.

    >>> import os, tempfile
    >>> with tempfile.TemporaryFile() as file:
    ...     store_all([(file.fileno(), 2, b"lo"), (-1, 0, b"hi")]) == [0, 9], file.read()
    (True, b'\\x00\\x00lo')
    """
    cdef Py_ssize_t count = len(pieces), i, threads = min(count, <Py_ssize_t>THREADS)
    cdef list kept = []  # while C points into it
    cdef Piece* all_pieces = <Piece*>calloc(max(count, 1), sizeof(Piece))
    cdef Share shares[THREADS]
    cdef bytes data
    if all_pieces == NULL:
        raise MemoryError
    try:
        for i, (fd, offset, data) in enumerate(pieces):
            kept.append(data)
            all_pieces[i] = Piece(fd=fd, error=0, offset=offset, data=data, size=len(data))
        with nogil:
            for i in range(threads):
                shares[i].pieces, shares[i].count = all_pieces, count
                shares[i].first, shares[i].step = i, threads
                shares[i].started = False
            for i in range(1, threads):
                shares[i].started = not pthread_create(&shares[i].thread, NULL, store_share, &shares[i])
            for i in range(threads):
                if not shares[i].started:  # the first, and those that there is no thread for
                    store_share(&shares[i])
            for i in range(1, threads):
                if shares[i].started:
                    pthread_join(shares[i].thread, NULL)
        return [all_pieces[i].error for i in range(count)]
    finally:
        free(all_pieces)
