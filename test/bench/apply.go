package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/m2m-operator/m2m-operator/api/v1alpha1"
	"github.com/m2m-operator/m2m-operator/test/installation"
)

// runApply measures the time from a client's manifest to a token that its Secret
// buys, on an idle control plane: by a call to the API, and by a kubectl process.
func runApply(args []string) error {
	flags := newFlags("apply")
	times := flags.Int("times", 50, "how many clients to create, one after the other")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := within(10 * time.Minute)
	defer cancel()
	return withInstallation(ctx, wanted{}, func(ctx context.Context, in *installed) error {
		i := in.Installation
		byCall := func(name string) error {
			return i.Create(ctx, &v1alpha1.M2MClient{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}})
		}
		byKubectl := func(name string) error {
			cmd := i.Cluster.Kubectl(ctx, "apply", "--server-side", "-f", "-")
			cmd.Stdin = strings.NewReader("{apiVersion: m2m-operator.dev/v1alpha1, kind: M2MClient, metadata: {name: " + name + ", namespace: default}}")
			return cmd.Run()
		}
		if err := measureApply(ctx, i, "call", byCall, *times); err != nil {
			return err
		}
		return measureApply(ctx, i, "kubectl", byKubectl, *times)
	})
}

func measureApply(ctx context.Context, i *installation.Installation, name string, create func(name string) error, times int) error {
	var took []time.Duration
	for n := range times {
		d, err := untilToken(ctx, i, fmt.Sprintf("by-%s-%d", name, n), create)
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	slices.Sort(took)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	fmt.Printf("from %-8s to the first token: median %.1f ms, p90 %.1f ms, of %d\n", name, ms(took[len(took)/2]), ms(took[len(took)*9/10]), len(took))
	return nil
}

// untilToken creates a client, waits for its Secret, and asks for a token until it
// gets one.
func untilToken(ctx context.Context, i *installation.Installation, name string, create func(string) error) (time.Duration, error) {
	secrets, err := i.Watch(ctx, &corev1.SecretList{}, client.InNamespace("default"), client.MatchingFields{"metadata.name": name})
	if err != nil {
		return 0, err
	}
	defer secrets.Stop()
	start := time.Now()
	if err := create(name); err != nil {
		return 0, err
	}
	event, open := <-secrets.ResultChan()
	secret, ok := event.Object.(*corev1.Secret)
	if !open || !ok {
		return 0, fmt.Errorf("watching Secret %q: %v", name, event.Object)
	}
	for ctx.Err() == nil {
		if granted, err := askForToken(secret.Data); granted || err != nil {
			return time.Since(start), err
		}
	}
	return 0, ctx.Err()
}

func askForToken(data map[string][]byte) (bool, error) {
	response, err := http.PostForm(string(data["token_url"]), url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {string(data["client_id"])},
		"client_secret": {string(data["client_secret"])},
	})
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body) // so that the connection is used again
	return response.StatusCode == http.StatusOK, err
}
