package main

import "github.com/spf13/cobra"

// tokenCommands get and verify tokens, and look after project secrets, imports and what
// nobody uses.
func tokenCommands(k *kube) []*cobra.Command {
	return []*cobra.Command{
		newTokenCommand(k),
		newVerifyCommand(k),
		newProjectSecretCommand(k),
		newImportStytchCommand(k),
		newUnusedCommand(k),
	}
}
