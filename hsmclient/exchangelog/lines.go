package exchangelog

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// readSize is how much of a file is held in memory: many lines, and more than any true line.
const readSize = 64 << 10

// lines reads the lines of one file that may still grow.
type lines struct {
	file     *os.File
	name     string
	buf      []byte
	from, to int   // what of buf is not given yet
	offset   int64 // of buf[from] in the file
	overlong int64 // bytes of a line that did not fit and whose end has not come yet
}

// line is a piece of a file up to a line feed.
type line struct {
	text   []byte // without line feed, valid until the next call; nil for an overlong line
	offset int64
	bytes  int64 // with line feed
}

// next gives the next whole line, and false when there is none yet. It can be called again when the file has grown.
func (l *lines) next() (line, bool, error) {
	for {
		if n := bytes.IndexByte(l.buf[l.from:l.to], '\n'); n >= 0 {
			got := line{text: l.buf[l.from : l.from+n], offset: l.offset, bytes: int64(n) + 1}
			l.from += n + 1
			l.offset += int64(n) + 1
			if l.overlong > 0 {
				got = line{offset: got.offset - l.overlong, bytes: got.bytes + l.overlong}
				l.overlong = 0
			}
			return got, true, nil
		}
		if l.from > 0 {
			l.to = copy(l.buf, l.buf[l.from:l.to])
			l.from = 0
		}
		if l.to == len(l.buf) {
			l.overlong += int64(l.to)
			l.offset += int64(l.to)
			l.to = 0
		}
		n, err := l.file.Read(l.buf[l.to:])
		l.to += n
		if n == 0 && errors.Is(err, io.EOF) {
			return line{}, false, nil
		}
		if n == 0 && err != nil {
			return line{}, false, err
		}
	}
}

// rest gives what stands behind the last line feed, as one torn line; false when there is nothing.
func (l *lines) rest() (line, bool) {
	n := int64(l.to-l.from) + l.overlong
	return line{offset: l.offset - l.overlong, bytes: n}, n > 0
}

// open begins with a file.
func (l *lines) open(path, name string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	if l.buf == nil {
		l.buf = make([]byte, readSize)
	}
	*l = lines{file: f, name: name, buf: l.buf}
	return nil
}

func (l *lines) close() {
	if l.file != nil {
		_ = l.file.Close() // only read
		l.file = nil
	}
}
