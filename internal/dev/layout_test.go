package dev

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestLock(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "data")
	_, lock, err := open(root)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(root); err == nil || !strings.Contains(err.Error(), "another keyward runs with the data in "+root) {
		t.Errorf("second open: %v", err)
	}
	if _, err := Reset(t.Context(), root); err == nil {
		t.Error("a system that runs was reset")
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	_, again, err := open(root)
	if err != nil {
		t.Fatalf("after the first has gone: %v", err)
	}
	_ = again.Close()
}

func TestReset(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	root := filepath.Join(base, "data")
	if found, err := Reset(t.Context(), root); err != nil || found {
		t.Errorf("nothing there: %v, %v", found, err)
	}
	l, lock, err := open(root)
	if err != nil {
		t.Fatal(err)
	}
	_ = lock.Close()
	// The file names a directory that is none of ours: it must stay.
	foreign := filepath.Join(base, "precious")
	if err := errors.Join(os.Mkdir(foreign, 0o755), os.WriteFile(l.databasePlace(), []byte(foreign), 0o600)); err != nil {
		t.Fatal(err)
	}
	if found, err := Reset(t.Context(), root); err != nil || !found {
		t.Errorf("reset: %v, %v", found, err)
	}
	if _, err := os.Stat(root); !errors.Is(err, os.ErrNotExist) {
		t.Error("the data are still there")
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("a foreign directory: %v", err)
	}
}

func TestForeignDirectory(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	precious := filepath.Join(root, "thesis.txt")
	if err := os.WriteFile(precious, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := open(root); err == nil || !strings.Contains(err.Error(), "holds other files") {
		t.Errorf("open: %v", err)
	}
	if _, err := Reset(t.Context(), root); err == nil {
		t.Error("a foreign directory was reset")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestFileInTheWay(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{file, filepath.Join(file, "data")} {
		if _, _, err := open(root); err == nil || !strings.Contains(err.Error(), "choose another directory with --data-dir") {
			t.Errorf("%s: %v", root, err)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		want string
	}{
		{syscall.ENOSPC, "the disk is full"}, {syscall.EDQUOT, "the disk is full"}, {syscall.EACCES, "make it writable"},
		{syscall.EROFS, "make it writable"}, {&os.PathError{Op: "open", Path: "/x", Err: syscall.ENOSPC}, "the disk is full"},
	} {
		text := explain("write", "/data/x", test.err).Error()
		if !strings.Contains(text, test.want) || !strings.Contains(text, "--data-dir") || strings.Count(text, "/") > 2 {
			t.Errorf("%v: %q", test.err, text)
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	offset, err := FreeOffset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", at(portIssuer, offset))
	if err != nil {
		t.Skip("somebody else took the port meanwhile")
	}
	defer func() { _ = l.Close() }()
	err = checkPorts(t.Context(), offset)
	want := "port " + strconv.Itoa(portIssuer+offset) + " is in use (issuer API)"
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--port-offset") {
		t.Errorf("checkPorts: %v, want %q", err, want)
	}
}

func TestContractPorts(t *testing.T) {
	t.Parallel()
	var got []int
	for _, p := range listeners(100) {
		got = append(got, p.number-100)
	}
	slices.Sort(got)
	want := []int{7001, 7002, 7101, 8080, 8081, 8082, 8083, 8084, 8090, 15001, 15002, 15003, 15011, 15012, 15013, 15021}
	if !slices.Equal(got, want) {
		t.Errorf("ports %v, want %v", got, want)
	}
}

func TestOptionsRefused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		opt  Options
		want string
	}{
		{Options{Offset: -1}, "--port-offset"}, {Options{Offset: 60000}, "--port-offset"}, {Options{Terminals: 10000}, "--terminals"},
		{Options{Traffic: true, Rate: 0}, "--rate"}, {Options{Traffic: true, Rate: 1e9}, "--rate"}, {Options{BinDir: "/nonexistent"}, "make build"},
	} {
		if _, err := Start(context.Background(), test.opt, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %s in it", test.opt, err, test.want)
		}
	}
}
