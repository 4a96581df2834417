package credential

import (
	"strings"
	"testing"
)

// What a caller sends as a client id may be a secret: a log has what stands for it.
func TestLogID(t *testing.T) {
	pepper, other := newTestPepper(t, 1), newTestPepper(t, 2)
	const leaked, made = "kQ3pVd0sWmZ8yXn4RtLb7HcJ2fGa5UoE", "m2m-client-live-6f1b1c5e-6b1e-4d0e-9a55-0c5a3f3f4b11"
	stands := pepper.LogID(leaked)
	if stands != pepper.LogID(leaked) || stands == other.LogID(leaked) || stands == pepper.LogID(leaked+"x") || strings.Contains(stands, leaked[:4]) {
		t.Errorf("it stands as %q", stands)
	}
	if got := pepper.LogID(made); got != made {
		t.Errorf("an id of the operator's form stands as %q", got)
	}
	var none *Pepper
	if got := none.LogID(leaked); got != "(unknown)" {
		t.Errorf("without a pepper it stands as %q", got)
	}
}
