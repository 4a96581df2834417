package main

import (
	"context"
	"io"
	"net"

	"github.com/m2m-operator/m2m-operator/test/controlplane"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// local is an installation whose files are in a state's folder.
type local struct {
	state
	*installation.Installation
}

// install starts everything in the state's folder and returns when it is ready. If
// it can't, nothing keeps running.
func install(ctx context.Context, s state, progress io.Writer) (*local, error) {
	operator, err := s.operator()
	if err != nil {
		return nil, err
	}
	address, err := serverAddress()
	if err != nil {
		return nil, err
	}
	i, err := installation.Start(ctx, installation.Options{
		Dir:               s.dir,
		Binary:            operator,
		Servers:           1,
		ServerAddress:     address,
		ControllerManager: true,
		ManagementAPI:     true,
		Progress:          progress,
	})
	return &local{s, i}, err
}

// serverAddress is the same from one run to the next where possible.
func serverAddress() (string, error) {
	const usual = "127.0.0.1:8080"
	listener, err := net.Listen("tcp", usual)
	if err != nil {
		return controlplane.FreeAddress()
	}
	return usual, listener.Close()
}
