//go:build !linux

package process

import "syscall"

// dieWithParent needs Linux. Elsewhere the children of a killed program live on.
func dieWithParent(*syscall.SysProcAttr) {}
