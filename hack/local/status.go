package main

import (
	"errors"
	"fmt"
	"os"
)

// status says what runs and how to use it.
func status(s state) error {
	running := s.running()
	if len(running) == 0 {
		fmt.Println("Nothing is running; `make up` starts it.")
		return nil
	}
	env, err := os.ReadFile(s.path("env"))
	if errors.Is(err, os.ErrNotExist) {
		fmt.Println("It is just being started; `make down` stops it.")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Printf(`It is running; its logs and pids are in .local.

%s
  source .local/env                         sets these
  bin/k8s/kubectl apply -k config/samples   makes clients
  make down                                 stops it
`, env)
	return nil
}
