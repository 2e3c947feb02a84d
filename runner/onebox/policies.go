// Judges the first packet of each connection of a pod by the cluster's NetworkPolicies, outside of the cluster: what is
// published of kube-network-policies runs in a pod alone. The packet filter hands packets over by its queue.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"os/signal"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "the file that leads to the API")
	node := flag.String("node", "", "the name of this node")
	queue := flag.Int("queue", 100, "the queue of the packet filter")
	listen := flag.String("listen", "127.0.0.1:9080", "where /healthz answers")
	flag.Parse()
	running, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	factory := informers.NewSharedInformerFactory(client, 0)
	policies := factory.Networking().V1().NetworkPolicies()
	namespaces, pods := factory.Core().V1().Namespaces(), factory.Core().V1().Pods()
	controller, err := networkpolicy.NewController(client, policies, namespaces, pods, nil, nil, nil, nil,
		networkpolicy.Config{QueueID: *queue, NodeName: *node})
	if err != nil {
		log.Fatal(err)
	}
	known := []func() bool{
		policies.Informer().HasSynced, namespaces.Informer().HasSynced, pods.Informer().HasSynced,
	}
	factory.Start(running.Done())
	http.HandleFunc("/healthz", func(answer http.ResponseWriter, _ *http.Request) {
		for _, all := range known {
			if !all() {
				answer.WriteHeader(http.StatusServiceUnavailable)
				return
			}
		}
	})
	go func() { log.Fatal(http.ListenAndServe(*listen, nil)) }()
	if err := controller.Run(running); err != nil {
		log.Fatal(err)
	}
}
