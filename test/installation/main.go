package installation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Main is what the TestMain of a package does that needs something running: start starts
// it, with files in a folder that is removed in the end, and returns how it is stopped.
// Main runs the tests meanwhile, and ends the program.
func Main(tests interface{ Run() int }, start func(ctx context.Context, dir string) (stop func() error, err error)) {
	code, err := around(tests.Run, start)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func around(run func() int, start func(context.Context, string) (func() error, error)) (code int, err error) {
	dir, err := os.MkdirTemp("", filepath.Base(os.Args[0])+"-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	stop, err := start(ctx, dir)
	if err != nil {
		return 1, err
	}
	return run(), stop()
}
