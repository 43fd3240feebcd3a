"""The operator: decides what may run now, hands it to the broker, and reflects what happens into the resources."""
