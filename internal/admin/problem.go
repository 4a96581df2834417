package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/m2m-operator/m2m-operator/internal/managementapi"
)

// retrySoon is when to try again what the cluster can't do at present.
const retrySoon = 2 * time.Second

// refused translates what the API server says. What it doesn't explain stays an error
// with an unknown cause.
func refused(doing string, err error) error {
	var status apierrors.APIStatus
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return unavailable("the cluster did not answer in time", err.Error())
	case !errors.As(err, &status):
		return unavailable("the cluster can't be reached at present", doing+": "+err.Error())
	}
	message := status.Status().Message
	switch {
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return &managementapi.Problem{Status: http.StatusBadRequest, Type: managementapi.TypeInvalidArgument, Message: "the cluster refuses it: " + causes(status.Status())}
	case apierrors.IsForbidden(err):
		return &managementapi.Problem{Status: http.StatusForbidden, Type: managementapi.TypeForbidden, Message: "the cluster forbids it: " + message}
	case apierrors.IsTooManyRequests(err):
		p := unavailable("the cluster has too much to do", doing)
		p.Status, p.Type = http.StatusTooManyRequests, managementapi.TypeTooManyRequests
		if seconds, ok := apierrors.SuggestsClientDelay(err); ok && seconds > 0 {
			p.RetryAfter = time.Duration(seconds) * time.Second
		}
		return p
	case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
		return unavailable("the cluster can't do it at present", doing+": "+message)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// causes is what is wrong with an object, field by field.
func causes(status metav1.Status) string {
	if status.Details == nil || len(status.Details.Causes) == 0 {
		return status.Message
	}
	var all []string
	for _, c := range status.Details.Causes {
		all = append(all, strings.TrimPrefix(c.Field+": "+c.Message, ": "))
	}
	return strings.Join(all, "; ")
}

func unavailable(message, reason string) *managementapi.Problem {
	return &managementapi.Problem{
		Status: http.StatusServiceUnavailable, Type: managementapi.TypeUnavailable,
		Message: message + ": try again later", Reason: reason, RetryAfter: retrySoon,
	}
}

func conflict(format string, args ...any) *managementapi.Problem {
	return &managementapi.Problem{Status: http.StatusConflict, Type: managementapi.TypeConflict, Message: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) *managementapi.Problem {
	return &managementapi.Problem{Status: http.StatusBadRequest, Type: managementapi.TypeInvalidArgument, Message: fmt.Sprintf(format, args...)}
}
