"""What theory expects of a net's layers, from a report of it alone.

Two predictions are made of each layer. The *cumulative* one starts from the net's input and follows
the signal through all layers, with a band: so many of all nets that differ in the draw of their
weights lie within. The *local* one starts from the measured input of the layer itself; what departs
from that has another reason than the layers before it.

A layer's weights count with their moments, as they are; that they know nothing of what they are
applied to is the theory's assumption, which training breaks.

    initfast.profile(net, x).predicted          # a Prediction: print it
    initfast.predict_scales(net, x)             # the same
"""
