// Command image makes the operator's image without a container daemon: an OCI
// layout in a tar, for more than one platform, the same bytes for the same commit.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C doesn't wait
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "image",
		Short: "Makes the operator's image without a container daemon",
		Long: `image makes the operator's image: from scratch, with static binaries and nothing that
could be written to. What it writes is a tar of an OCI layout, which containerd
("ctr images import"), podman and skopeo read.

Progress goes to stderr; stdout gets the digest of what was made.`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newBuildCommand(), newCheckCommand(), newPushCommand(), newWrapCommand())
	return root
}

// progress tells the person who waits what goes on.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func newBuildCommand() *cobra.Command {
	var r recipe
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Build the operator's image and its bill of materials",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.complete(cmd.Context()); err != nil {
				return err
			}
			digest, err := r.build(cmd.Context())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), digest)
			return nil
		},
	}
	r.addFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&r.output, "output", "", "`file` of the image (default: bin/m2m-operator.oci.tar in the source)")
	flags.StringVar(&r.materials, "sbom", "", "`file` of the bill of materials, CycloneDX JSON (default: beside the image, .cdx.json)")
	flags.StringVar(&r.binaries, "binaries", "", "`folder` of binaries to take instead of building them: OS/ARCH/NAME, linux/amd64/m2m-operator say")
	return cmd
}

// addFlags adds the flags that all commands with a recipe have.
func (r *recipe) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&r.root, "root", ".", "`folder` of the operator's source")
	flags.StringVar(&r.name, "name", "m2m-operator:latest", "`name` under which the image is imported, with its tag")
	flags.StringSliceVar(&r.platforms, "platform", []string{"linux/amd64", "linux/arm64"}, "the `platforms` of the image")
	flags.StringVar(&r.version, "version", "", "`version` of the operator (default: what git describes, or dev)")
	flags.StringVar(&r.fips, "fips", "off", "GOFIPS140 of the binaries: off, latest, or the `version` of a Go cryptographic module")
}

func newCheckCommand() *cobra.Command {
	var r recipe
	var cold bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Build the image twice, in different folders, and fail unless all bytes are the same",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.complete(cmd.Context()); err != nil {
				return err
			}
			digest, err := r.check(cmd.Context(), cold)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), digest)
			return nil
		},
	}
	r.addFlags(cmd)
	cmd.Flags().BoolVar(&cold, "cold", false, "compile everything again for the second build, which takes minutes: without it what the first compiled is used")
	return cmd
}

func newPushCommand() *cobra.Command {
	var input, to string
	cmd := &cobra.Command{
		Use:   "push --to REGISTRY/REPOSITORY:TAG",
		Short: "Push an image that was built, with its bill of materials, to a registry",
		Long: `push sends an image that "image build" or "image wrap" made, and its bill of materials
as a referrer of it. Credentials are those that "docker login" or "podman login" left.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			digest, err := push(cmd.Context(), input, to)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), digest)
			return nil
		},
	}
	cmd.Flags().StringVar(&input, "input", "bin/m2m-operator.oci.tar", "`file` of the image")
	cmd.Flags().StringVar(&to, "to", "", "where to: `REGISTRY/REPOSITORY:TAG`")
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func newWrapCommand() *cobra.Command {
	var name, output, tree string
	cmd := &cobra.Command{
		Use:   "wrap --name NAME --output FILE BINARY...",
		Short: "Make an image of static binaries, for tests",
		Long: `wrap makes an image with each BINARY in its root folder, for the platform that they were
built for, beside the files of a folder. The first is the entrypoint. It runs as user 65532.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, binaries []string) error {
			digest, err := wrap(name, output, tree, binaries)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), digest)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` under which the image is imported, with its tag")
	cmd.Flags().StringVar(&output, "output", "", "`file` of the image")
	cmd.Flags().StringVar(&tree, "tree", "", "`folder` whose files the image gets, too, at their paths")
	_ = cmd.MarkFlagRequired("name")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}
