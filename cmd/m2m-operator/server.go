package main

import "github.com/spf13/cobra"

func newServerCommand(_ *common) *cobra.Command { return &cobra.Command{Use: "server"} }
