package spool_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/keyward/keyward/internal/spool"
)

// childEnv makes the test binary the writing process of TestKillLosesNothing.
const childEnv = "KEYWARD_SPOOL_TEST_DIR"

// child appends records without fsync and prints each number after Append returned, until it is killed.
func child() {
	s, _, err := spool.Open(spool.Config{Dir: os.Getenv(childEnv), SegmentBytes: segment})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 1; ; i++ {
		pos, err := s.Append([]byte(strings.Repeat(strconv.Itoa(i)+" ", 20)))
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(pos)
	}
}

func TestKillLosesNothing(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	var told uint64
	for round := range 4 {
		cmd := exec.Command(os.Args[0], "-test.run=^$") // The test binary itself.
		cmd.Env = append(os.Environ(), childEnv+"="+path)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for i := 0; lines.Scan(); i++ {
			n, err := strconv.ParseUint(lines.Text(), 10, 64)
			if err != nil {
				t.Fatalf("child: %s", lines.Text())
			}
			told = max(told, n)
			if i == 2000+333*round {
				must(t, cmd.Process.Kill()) // What the pipe still holds is read too.
			}
		}
		_ = cmd.Wait() // Killed.
		s, rec := open(t, spool.Config{Dir: path, SegmentBytes: segment})
		if rec.Rebooted || rec.SyncFailed || rec.Records < told || rec.Records > told+1 {
			t.Fatalf("round %d: child told %d records, recovered %+v", round, told, rec)
		}
		var after spool.Pos
		for uint64(after) < rec.Records {
			for _, r := range next(t, s, after, 1000) {
				if r.Pos != after+1 {
					t.Fatalf("after %d came %d", after, r.Pos)
				}
				after = r.Pos
			}
		}
		told = rec.Records
		must(t, s.Close())
	}
}
