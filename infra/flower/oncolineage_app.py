"""What Flower starts at the coordinator and at a site."""

import training.federated.coordinator
import training.federated.site

server = training.federated.coordinator.app  # Flower looks for assignments, and sees no imports
client = training.federated.site.app
