package dev

import (
	"os"
	"testing"

	"github.com/keyward/keyward/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
