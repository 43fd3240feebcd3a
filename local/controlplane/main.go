// Command controlplane is etcd and kube-apiserver in one binary that acts by the name it is called by.
//
// It is the last resort of `make up` and `make test`: on a machine that can reach the Go module proxy but neither
// Kubernetes' download site nor a container registry, a control plane can still be built from source. One binary
// instead of two, because most of what the two link is the same.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() {
	switch name := filepath.Base(os.Args[0]); name {
	case "etcd":
		etcdmain.Main(os.Args)
	case "kube-apiserver":
		os.Exit(cli.Run(app.NewAPIServerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "%s: call me etcd or kube-apiserver (by a symbolic link)\n", name)
		os.Exit(2)
	}
}
