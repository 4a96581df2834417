package main

import "github.com/spf13/cobra"

// clientCommands create, show and change M2MClients.
func clientCommands(*kube) []*cobra.Command { return nil }
