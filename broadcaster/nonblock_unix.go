//go:build unix

package broadcaster

import "syscall"

// quick writes to a socket without waiting. It belongs to one outlet, whose
// lock protects it; the closure is made once, because a write would allocate it.
type quick struct {
	raw     syscall.RawConn
	attempt func(fd uintptr) bool
	bytes   []byte
	n       int
	err     error
}

// newQuick is nil for a link that is not a plain socket, TLS for example.
func newQuick(link Link) *quick {
	conn, ok := link.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	q := &quick{raw: raw}
	q.attempt = func(fd uintptr) bool {
		for {
			q.n, q.err = syscall.Write(int(fd), q.bytes)
			if q.err != syscall.EINTR {
				return true // also after EAGAIN: never wait here
			}
		}
	}
	return q
}

// write writes what the socket takes at once.
func (q *quick) write(b []byte) (int, error) {
	q.bytes, q.n, q.err = b, 0, nil
	err := q.raw.Write(q.attempt)
	q.bytes = nil
	if err == nil && q.err != syscall.EAGAIN {
		err = q.err
	}
	return max(q.n, 0), err
}
