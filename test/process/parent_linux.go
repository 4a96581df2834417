package process

import "syscall"

// dieWithParent makes the kernel kill the child when this program ends without
// stopping it, as a killed one does, or a test that timed out.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
